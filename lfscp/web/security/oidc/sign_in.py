"""Logs a browser in at the identity provider: authorization code with PKCE.

Rules: nothing is kept for a login that has begun, so that nobody can fill the memory, or push out
the logins of others. The cookie of the browser holds a random text and is signed. State, nonce and
PKCE's verifier are made from that text with a key of this process, so only this browser can come
back with the code, and a code is of use to nobody else. A login may take ten minutes, and counts
once.

Source: OpenID Connect Core 1.0 section 3.1, RFC 7636 (PKCE), RFC 9207 (iss), RFC 9700.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from lfscp.config.oidc import OIDC
from lfscp.config.peer_secrets import read_secret
from lfscp.observe.logging import get_logger
from lfscp.web.security.oidc.claims import values_of
from lfscp.web.security.oidc.documents import (
    Document,
    RefusedByProviderError,
    fetch,
    printable,
)
from lfscp.web.security.oidc.errors import ProviderAwayError, TokenRefusedError
from lfscp.web.security.oidc.provider import Known, Provider
from lfscp.web.security.oidc.tokens import Claims, Tokens, is_jwt

LOG: Final = get_logger("lfscp.web")
LASTS_S: Final = 600
MAX_NEXT: Final = 1500  # characters; a cookie has 4096 bytes
# Characters; proxies take headers of 4 kB, and groups can make a token long.
MAX_HINT: Final = 2500
MAX_USED: Final = 10_000
_AWAY: Final = frozenset({"temporarily_unavailable", "server_error"})
_UNFIT: Final = (
    "this login did not begin in this browser, or more than 10 minutes ago; log in again"
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that begins.

    Args:
        url: at the provider, where the browser goes.
        cookie: for the way back.
    """

    url: str
    cookie: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user whom the provider has named.

    Args:
        claims: of the ID token.
        values: of the role claim.
        id_token: for the logout there.
        next: the page that was asked for.
    """

    claims: Claims
    values: tuple[str, ...]
    id_token: str
    next: str


class SignIn:
    """The logins at one provider. Any thread may ask; not the event loop's: it may wait.

    Args:
        settings: of the provider.
    """

    def __init__(self, settings: OIDC, provider: Provider, tokens: Tokens) -> None:
        self._settings = settings
        self._provider = provider
        self._tokens = tokens
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._used: OrderedDict[str, None] = OrderedDict()

    def begin(self, back: str, next_page: str) -> Begun:
        """Begin a login.

        Args:
            back: URL of this node where the provider sends the browser.
            next_page: the path that was asked for.
        Raises:
            ProviderAwayError: the provider does not answer.
        """
        known = self._provider.known()
        if not known.authorization or not known.token:
            raise ProviderAwayError("it has no login for browsers")
        text = secrets.token_urlsafe(24)
        page = next_page if len(next_page) <= MAX_NEXT else "/"
        challenge = hashlib.sha256(self._made("verifier", text).encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": back,
            "scope": " ".join(self._settings.scopes),
            "state": self._made("state", text),
            "nonce": self._made("nonce", text),
            "code_challenge": _base64(challenge),
            "code_challenge_method": "S256",
        }
        return Begun(
            _with(known.authorization, asked), self._sealed([text, int(time.time()), page])
        )

    def finish(self, cookie: str, answer: Mapping[str, str], back: str) -> SignedIn:
        """Take the answer of the provider, which the browser brings.

        Args:
            cookie: what `begin` gave this browser.
            answer: the query: code and state, or an error.
            back: as for `begin`.
        Raises:
            TokenRefusedError: it is no login.
            ProviderAwayError: the provider does not answer.
        """
        text, page = self._begun(cookie, answer)
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:
            raise TokenRefusedError("the answer is of another identity provider (iss)")
        if "error" in answer:
            raise _not_logged_in(answer)
        if not answer.get("code"):
            raise TokenRefusedError("the identity provider sent no code; log in again")
        found = self._exchanged(answer["code"], self._made("verifier", text), back)
        id_token = found.get("id_token")
        if not isinstance(id_token, str):
            raise TokenRefusedError("the identity provider sent no ID token")
        claims = self._tokens.login_claims(id_token, self._made("nonce", text))
        self._use_up(text)
        return SignedIn(claims, self._values(claims, found), id_token, page)

    def is_begun(self, cookie: str, answer: Mapping[str, str]) -> bool:
        """Whether an answer belongs to a login that this browser began."""
        try:
            self._begun(cookie, answer)
        except TokenRefusedError:
            return False
        return True

    def _begun(self, cookie: str, answer: Mapping[str, str]) -> tuple[str, str]:
        text, page = self._opened(cookie)
        if not _same(answer.get("state", ""), self._made("state", text)):
            raise TokenRefusedError(_UNFIT)
        return text, page

    def end_url(self, id_token: str, back: str) -> str:
        """Where the browser ends its session at the provider; empty if it cannot."""
        try:
            end = self._provider.known().end_session
        except ProviderAwayError:
            return ""
        asked = {
            "client_id": self._settings.client_id,
            "post_logout_redirect_uri": back,
        }
        if len(id_token) <= MAX_HINT:  # without it the provider may ask whether to log out
            asked["id_token_hint"] = id_token
        return _with(end, asked) if end else ""

    def _exchanged(self, code: str, verifier: str, back: str) -> Document:
        """What the provider gives for a code (RFC 6749 section 4.1.3)."""
        known = self._provider.known()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": verifier,
        }
        headers = self._identify(known, form)
        try:
            return fetch(known.token, self._settings.ca_file, form, headers)
        except RefusedByProviderError as error:
            if error.code == "invalid_grant":
                raise TokenRefusedError(
                    "the identity provider does not take the code; log in again"
                ) from None
            raise

    def _identify(self, known: Known, form: dict[str, str]) -> dict[str, str]:
        """Name this node: in a header, or in the form."""
        client, secret = self._settings.client_id, self._secret()
        if not secret or known.secret_in_form:
            form["client_id"] = client
            if secret:
                form["client_secret"] = secret
            return {}
        pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def _secret(self) -> str:
        file = self._settings.client_secret_file
        if not file:
            return self._settings.client_secret.get_secret_value()
        try:
            return read_secret(file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            LOG.error("no secret for the identity provider", file=file, reason=reason)  # noqa: TRY400 - one line
            raise ProviderAwayError("this node cannot read its secret; see its log") from None

    def _values(self, claims: Claims, found: Document) -> tuple[str, ...]:
        """The values of the role claim; Keycloak has them in the access token only."""
        values = values_of(claims, self._settings.role_claim)
        token = found.get("access_token")
        if values or not isinstance(token, str) or not is_jwt(token):
            return values
        try:
            more = self._tokens.access_claims(token, is_ours=True)
        except TokenRefusedError as error:
            LOG.debug("no roles from the access token", reason=str(error))
            return ()
        if more.get("sub") != claims["sub"]:
            return ()
        return values_of(more, self._settings.role_claim)

    def _use_up(self, text: str) -> None:
        with self._lock:
            if text in self._used:
                raise TokenRefusedError(_UNFIT)
            self._used[text] = None
            if len(self._used) > MAX_USED:
                self._used.popitem(last=False)

    def _made(self, what: str, text: str) -> str:
        """State, nonce or verifier of a login."""
        return _base64(hmac.digest(self._key, f"{what} {text}".encode(), "sha256"))

    def _sealed(self, content: list[Any]) -> str:
        body = _base64(json.dumps(content).encode())
        return f"{body}.{self._made('cookie', body)}"

    def _opened(self, cookie: str) -> tuple[str, str]:
        body, _, seal = cookie.partition(".")
        if not _same(seal, self._made("cookie", body)):
            raise TokenRefusedError(_UNFIT)
        text, began, page = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if not 0 <= time.time() - began <= LASTS_S:
            raise TokenRefusedError(_UNFIT)
        return text, page


def _not_logged_in(answer: Mapping[str, str]) -> Exception:
    """What the provider says instead of a code (RFC 6749 section 4.1.2.1)."""
    words = [answer[each] for each in ("error", "error_description") if answer.get(each)]
    reason = printable(f"the identity provider did not log you in: {': '.join(words)}")
    return (ProviderAwayError if answer["error"] in _AWAY else TokenRefusedError)(reason)


def _with(url: str, fields: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"


def _same(given: str, made: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), made.encode())


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
