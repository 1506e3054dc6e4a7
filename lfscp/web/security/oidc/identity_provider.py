"""Joins what an identity provider is for: tokens of requests, logins at the page, roles.

Its refusals are answers of HTTP, with a line in the log and a record in the audit trail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from lfscp.config.oidc import OIDC
from lfscp.config.roles import Role
from lfscp.observe import audit
from lfscp.services.access.attempts import Attempts, TooManyAttemptsError
from lfscp.web.problems import Problem
from lfscp.web.security.oidc.claims import RoleOfValues, name_of, why_no_role
from lfscp.web.security.oidc.errors import ProviderAwayError, TokenRefusedError
from lfscp.web.security.oidc.provider import Provider
from lfscp.web.security.oidc.sign_in import Begun, SignIn
from lfscp.web.security.oidc.tokens import Tokens, is_jwt
from lfscp.web.security.refusals import note_refusal
from lfscp.web.security.shares import Share

MAX_WAITING: Final = 16  # logins that wait for the provider
MAX_WAITING_OF_ADDRESS: Final = 8
UNNAMED: Final = "login"  # in the audit trail, before the provider has named the user
_RETRY_S: Final = 10


@dataclass(frozen=True, slots=True)
class User:
    """A user of the provider.

    Args:
        values: of the role claim.
        issuer, client_id: of the provider and of this node there.
        id_token: for the logout there; empty for the user of a token.
    """

    name: str
    role: Role
    values: tuple[str, ...]
    issuer: str
    client_id: str
    id_token: str = ""


class IdentityProvider:
    """The provider of one node. Any thread may ask; not the event loop's: it may wait.

    Args:
        settings: with an issuer.
        names: that users and tokens of this node have; a user of the provider gets another one.
        attempts: counts logins that failed.
    """

    def __init__(
        self, settings: OIDC, names: frozenset[str], attempts: Attempts | None = None
    ) -> None:
        self.settings = settings
        self.names = names
        self.attempts = attempts or Attempts(slows_accounts=False)
        self._role_of = RoleOfValues(settings)
        self._provider = Provider(settings)
        self._tokens = Tokens(settings, self._provider)
        self._sign_in = SignIn(settings, self._provider, self._tokens)
        self._waiting = Share(MAX_WAITING, MAX_WAITING_OF_ADDRESS)
        self._provider.begin()

    @property
    def host(self) -> str:
        """The provider's host, as people know it."""
        return urlsplit(self.settings.issuer).hostname or ""

    @property
    def logs_in_browsers(self) -> bool:
        """Whether the page offers a login there."""
        return bool(self.settings.client_id)

    def role(self, user: User) -> Role | None:
        """The role of a user who logged in before; None if the settings know him no longer."""
        ours = (self.settings.issuer, self.settings.client_id)
        return self._role_of(user.values) if (user.issuer, user.client_id) == ours else None

    def user_of_token(self, token: str, address: str) -> User | None:
        """The user of a token in a header Authorization; None if it is no JWT at all.

        Raises:
            TokenRefusedError: the token proves nothing.
            Problem: the provider is away (503), or the user has no role here (403).
        """
        if not is_jwt(token):
            return None
        try:
            verified = self._tokens.bearer(token)
        except ProviderAwayError as error:
            note_refusal("tokens", address, why=f"the identity provider: {error}")
            raise _away() from None
        name = self._distinct(verified.name)
        role = self._role_of(verified.values)
        if role is None:
            claims = verified.claims or self._tokens.access_claims(token)
            raise self._no_role(name, address, why_no_role(claims, self.settings))
        if verified.is_new:
            audit.user_authenticated(name, address)
        return self._user(name, role, verified.values)

    def begin(self, back: str, next_page: str, address: str) -> Begun:
        """Begin a login at the page; see `SignIn.begin`.

        Raises:
            Problem: the provider is away (503).
        """
        with _Waiting(self._waiting, address):
            try:
                return self._sign_in.begin(back, next_page)
            except ProviderAwayError as error:
                note_refusal("tokens", address, why=f"the identity provider: {error}")
                raise _away() from None

    def finish(
        self, cookie: str, answer: Mapping[str, str], back: str, address: str
    ) -> tuple[User, str]:
        """End a login at the page; see `SignIn.finish`.

        Returns:
            The user, and the page that was asked for.
        Raises:
            Problem: it failed (400, 403), the provider is away (503), or too many failed (429).
        """
        # Any page of others can have a browser come here; that must keep nobody from a login.
        if self._sign_in.is_begun(cookie, answer):
            self._count(address)
        with _Waiting(self._waiting, address):
            try:
                found = self._sign_in.finish(cookie, answer, back)
            except TokenRefusedError as error:
                note_refusal("tokens", address, why=str(error))
                audit.user_authenticated(UNNAMED, address, reason=str(error))
                raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
            except ProviderAwayError as error:
                note_refusal("tokens", address, why=f"the identity provider: {error}")
                audit.user_authenticated(UNNAMED, address, reason=str(error))
                raise _away() from None
        self.attempts.succeeded(UNNAMED, address)
        name = self._distinct(name_of(found.claims, self.settings.name_claim))
        role = self._role_of(found.values)
        if role is None:
            raise self._no_role(name, address, why_no_role(found.claims, self.settings))
        audit.user_authenticated(name, address)
        return self._user(name, role, found.values, found.id_token), found.next

    def _count(self, address: str) -> None:
        """Count a login as failed until it succeeds.

        Raises:
            Problem: too many failed (429).
        """
        try:
            self.attempts.begin(UNNAMED, address)
        except TooManyAttemptsError as reason:
            note_refusal("guesses", address)
            seconds = int(reason.wait_s) + 1
            headers = {"Retry-After": str(seconds)}
            detail = f"too many logins failed; wait {seconds} seconds"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers=headers) from None

    def end_url(self, user: User, back: str) -> str:
        """Where the browser ends its session at the provider; empty if it cannot."""
        return self._sign_in.end_url(user.id_token, back)

    def _user(self, name: str, role: Role, values: tuple[str, ...], id_token: str = "") -> User:
        return User(name, role, values, self.settings.issuer, self.settings.client_id, id_token)

    def _distinct(self, name: str) -> str:
        """The name; another one if a user of this node has it, who is another person."""
        return f"{name} ({self.host})" if name in self.names or name == UNNAMED else name

    def _no_role(self, name: str, address: str, reason: str) -> Problem:
        note_refusal("tokens", address, why=reason)
        audit.user_authenticated(name, address, reason=reason)
        return Problem(HTTPStatus.FORBIDDEN, reason)


class _Waiting:
    """A place among the logins that wait for the provider."""

    def __init__(self, share: Share, address: str) -> None:
        self._share = share
        self._address = address

    def __enter__(self) -> None:
        if self._share.take(self._address):
            note_refusal("logins", self._address)
            detail = "too many logins at once; try again in a moment"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": "1"})

    def __exit__(self, *_: object) -> None:
        self._share.give(self._address)


def _away() -> Problem:
    detail = "the identity provider cannot be asked now; try again in a moment"
    headers = {"Retry-After": str(_RETRY_S)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers)
