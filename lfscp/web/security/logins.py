"""Checks passwords and tokens, and finds the login they belong to.

Rules: passwords are checked one after another (scrypt takes 16 MB), and a few may wait. An unknown
name takes as long as a wrong password, so that the time does not tell the names. Wrong tokens never
delay a right one, nor a script's password that was right before.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections import OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from lfscp.config.passwords import hash_password, hash_token, is_password
from lfscp.config.roles import Role
from lfscp.config.web import Login, WebSection, read_login
from lfscp.observe import audit
from lfscp.services.access.attempts import Attempts, TooManyAttemptsError
from lfscp.web.problems import Problem
from lfscp.web.security.oidc.errors import TokenRefusedError
from lfscp.web.security.refusals import note_refusal
from lfscp.web.security.shares import Share

if TYPE_CHECKING:
    from lfscp.web.security.oidc.identity_provider import IdentityProvider

BEARER: Final = "bearer"  # the name of web.token_hash in the audit trail
MAX_WAITING: Final = 16  # passwords that wait to be checked
MAX_WAITING_OF_ADDRESS: Final = 8
MAX_KNOWN: Final = 1000  # right passwords of scripts that are remembered
WRONG: Final = "the name or the password is wrong"
_MAX_OF_A_NAME: Final = 64  # characters in the audit trail
_WRONG_CREDENTIAL: Final = "the token or password in the header Authorization is wrong"


class Logins:
    """The users and tokens of one node. Any thread may ask.

    Args:
        web: the settings.
        provider: whose tokens hold too.
    """

    def __init__(
        self,
        web: WebSection,
        attempts: Attempts | None = None,
        provider: IdentityProvider | None = None,
    ) -> None:
        self._provider = provider
        self._users = {each.name: each for each in map(read_login, web.users)}
        self._tokens = [read_login(each) for each in web.tokens]
        if web.token_hash:
            self._tokens.append(Login(BEARER, Role.ADMIN, web.token_hash))
        self._attempts = attempts or Attempts()
        self._waiting = Share(MAX_WAITING, MAX_WAITING_OF_ADDRESS)
        self._unknown_hash = hash_password(secrets.token_urlsafe(16)) if self._users else ""
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Login] = OrderedDict()  # by digest of the credential
        self._digest_key = secrets.token_bytes(32)

    def renewed(self, web: WebSection, provider: IdentityProvider | None) -> Logins:
        """The logins of new settings; wrong passwords stay counted."""
        return Logins(web, self._attempts, provider)

    def of_name(self, name: str) -> Login | None:
        """The user of that name."""
        return self._users.get(name)

    @property
    def are_any(self) -> bool:
        """Whether users or tokens are configured."""
        return bool(self._users or self._tokens)

    @property
    def has_users(self) -> bool:
        """Whether there are names and passwords."""
        return bool(self._users)

    def user(self, name: str, password: str, address: str) -> Login:
        """The user with this name and password.

        Raises:
            Problem: name or password is wrong, or too many wrong ones came.
        """
        login = self._checked(name, password, address)
        if login is None:
            audit.user_authenticated(name[:_MAX_OF_A_NAME], address, reason=WRONG)
            raise Problem(HTTPStatus.UNAUTHORIZED, WRONG)
        audit.user_authenticated(name, address)
        return login

    def of_header(self, scheme: str, credential: str, address: str) -> Login:
        """The login of the credential in a header Authorization.

        Raises:
            Problem: it is wrong, or too many wrong ones came.
        """
        if scheme == "bearer":
            return self._of_token(credential, address)
        login = self._of_basic(credential, address) if scheme == "basic" else None
        if login is None:
            user = _name_and_password(credential)[0] if scheme == "basic" else BEARER
            raise _refused(user, address)
        return login

    def _of_token(self, token: str, address: str) -> Login:
        hashed = hash_token(token)
        for login in self._tokens:  # first: they are cheap, and need nobody else
            if hmac.compare_digest(hashed, login.hashed):
                return login
        reason = ""
        try:
            user = self._provider.user_of_token(token, address) if self._provider else None
        except TokenRefusedError as error:
            user, reason = None, f"the token is refused: {error}"
        if user is not None:
            return Login(user.name, user.role, "")
        try:
            self._attempts.begin_with_token(address)
        except TooManyAttemptsError as too_many:
            raise _too_many(BEARER, address, too_many) from None
        if reason:
            note_refusal("tokens", address, why=reason)
        raise _refused(BEARER, address, reason)

    def _of_basic(self, credential: str, address: str) -> Login | None:
        digest = hmac.digest(self._digest_key, credential.encode(), "sha256")
        with self._lock:
            known = self._known.get(digest)
        if known is not None:
            return known
        name, password = _name_and_password(credential)
        login = self._checked(name, password, address)
        if login is not None:
            with self._lock:
                self._known[digest] = login
                if len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)
        return login

    def _checked(self, name: str, password: str, address: str) -> Login | None:
        """The user; None if name or password is wrong. Slow on purpose."""
        if self._waiting.take(address):
            note_refusal("logins", address)
            raise _wait(1, "too many logins at once; try again in a moment")
        try:
            self._attempts.begin(name, address)
            login = self._users.get(name)
            right = is_password(password, login.hashed if login else self._unknown_hash)
        except TooManyAttemptsError as reason:
            raise _too_many(name, address, reason) from None
        finally:
            self._waiting.give(address)
        if login is None or not right:
            return None
        self._attempts.succeeded(name, address)
        return login


def _refused(user: str, address: str, of_token: str = "") -> Problem:
    """The answer to a wrong credential.

    Args:
        of_token: why a token of the identity provider is refused.
    """
    reason = of_token or _WRONG_CREDENTIAL
    audit.user_authenticated(user[:_MAX_OF_A_NAME], address, reason=reason)
    challenge = 'Bearer error="invalid_token"' if of_token else "Bearer"  # RFC 6750 section 3
    return Problem(HTTPStatus.UNAUTHORIZED, reason, headers={"WWW-Authenticate": challenge})


def _name_and_password(credential: str) -> tuple[str, str]:
    """Name and password of Basic authentication (RFC 7617); two empty texts if it is not that."""
    try:
        name, _, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no UTF-8
        return "", ""
    return name, password


def _too_many(name: str, address: str, reason: TooManyAttemptsError) -> Problem:
    """The answer; the audit trail notes the first one."""
    note_refusal("guesses", address)
    if reason.is_first:
        text = "too many wrong passwords or tokens"
        audit.user_authenticated(name[:_MAX_OF_A_NAME], address, reason=text)
    seconds = int(reason.wait_s) + 1
    return _wait(seconds, f"too many wrong passwords; wait {seconds} seconds")


def _wait(seconds: int, detail: str) -> Problem:
    headers = {"Retry-After": str(seconds)}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers=headers)
