"""Verifies tokens of the identity provider (JWT): signature, issuer, audience and times.

Rules: a verified token is remembered by its digest until it expires or keys are fetched again, so
that each frame of a viewer costs microseconds. What is refused is not remembered. A token for
another use (logout, or one that is bound to a key) is no bearer token.

Source: OpenID Connect Core 1.0 section 3.1.3.7, RFC 9068 section 4, RFC 8725.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from lfscp.config.oidc import OIDC
from lfscp.web.security.oidc.claims import name_of, values_of
from lfscp.web.security.oidc.errors import TokenRefusedError
from lfscp.web.security.oidc.keys import ALGORITHMS
from lfscp.web.security.oidc.provider import Known, Provider

LEEWAY_S: Final = 60  # between the clocks
MAX_BYTES: Final = 16 << 10
MAX_REMEMBERED: Final = 1000
_NEVER: Final = 1 << 48  # JSON may have whole numbers that no float can hold
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_OTHER_USES: Final = frozenset({"id", "refresh", "offline", "logout"})  # Keycloak's claim typ

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token proves.

    Args:
        name: of the user.
        values: of the role claim.
        claims: all of them; empty for a token that was remembered.
        is_new: whether it was verified now, and not remembered.
    """

    name: str
    values: tuple[str, ...]
    claims: Mapping[str, Any]
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Remembered:
    verified: Verified
    expires: float  # of the wall clock
    known: Known


class Tokens:
    """The tokens of one provider. Any thread may ask; not the event loop's: it may wait.

    Args:
        settings: of the provider.
    """

    def __init__(self, settings: OIDC, provider: Provider) -> None:
        self._settings = settings
        self._provider = provider
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def bearer(self, token: str) -> Verified:
        """Verify a token of a header Authorization.

        Raises:
            TokenRefusedError: it proves nothing.
            ProviderAwayError: it cannot be verified now.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._provider.known()
        with self._lock:
            found = self._remembered.get(digest)
        if found is not None and found.known is known and time.time() < found.expires:
            return found.verified
        claims = self.access_claims(token)
        name = name_of(claims, self._settings.name_claim)
        values = values_of(claims, self._settings.role_claim)
        self._remember(digest, Verified(name, values, {}, is_new=False), claims["exp"], known)
        return Verified(name, values, claims, is_new=True)

    def access_claims(self, token: str, *, is_ours: bool = False) -> Claims:
        """The claims of a verified access token; raises as `bearer`.

        Args:
            is_ours: whether the provider has just given it to this node, in a login.
        """
        claims = self._claims(token)
        kind = claims.get("typ")
        if isinstance(kind, str) and kind.lower() in _OTHER_USES:
            raise TokenRefusedError("it is no access token")
        if "cnf" in claims:
            raise TokenRefusedError("it is bound to a key (cnf), so it is no bearer token")
        wanted, client = self._settings.token_audience, self._settings.client_id
        is_for_us = wanted in _audiences(claims)
        if not is_for_us and (is_ours or not self._settings.audience):
            is_for_us = claims.get("azp") == client
        if not is_for_us:
            raise TokenRefusedError(f"it is not for {wanted} (aud)")
        if not name_of(claims, self._settings.name_claim):
            raise TokenRefusedError("it names no user (sub)")
        return claims

    def login_claims(self, token: str, nonce: str) -> Claims:
        """The claims of a verified ID token; raises as `bearer`."""
        claims = self._claims(token, require=("sub", "iat"))
        client = self._settings.client_id
        if client not in _audiences(claims) or claims.get("azp", client) != client:
            raise TokenRefusedError(f"it is not for {client} (aud, azp)")
        if claims.get("nonce") != nonce:
            raise TokenRefusedError("it is of another login (nonce)")
        return claims

    def _claims(self, token: str, require: Iterable[str] = ()) -> Claims:
        kid, algorithm = _named_key(token)
        key = self._provider.key(kid, algorithm)
        issuer = self._settings.issuer
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=sorted(key.algorithms),
                issuer=issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", *require], "verify_aud": False},
            )
        except jwt.PyJWTError as error:
            raise TokenRefusedError(_in_words(error, issuer)) from None
        except (ValueError, TypeError, RecursionError):
            raise TokenRefusedError("it is malformed") from None
        return claims

    def _remember(self, digest: bytes, verified: Verified, expires: float, known: Known) -> None:
        with self._lock:
            self._remembered[digest] = _Remembered(
                verified, min(int(expires), _NEVER) + LEEWAY_S, known
            )
            self._remembered.move_to_end(digest)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def is_jwt(token: str) -> bool:
    """Whether a token may be one of a provider: three parts."""
    return token.count(".") == 2


def _named_key(token: str) -> tuple[str, str]:
    """The name of the key and the algorithm in a token's header."""
    if len(token) > MAX_BYTES:
        raise TokenRefusedError(f"it is longer than {MAX_BYTES >> 10} kB")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenRefusedError("it is malformed") from None
    algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ") or ""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefusedError("its algorithm (alg) is not accepted")
    if "crit" in header or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefusedError("it is no access token (typ, crit)")
    if not isinstance(kid, str):
        raise TokenRefusedError("it is malformed")
    return kid, algorithm


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    found = claims.get("aud")
    if isinstance(found, str):
        return (found,)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _in_words(error: jwt.PyJWTError, issuer: str) -> str:
    if isinstance(error, jwt.ExpiredSignatureError):
        return "it has expired"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "it is not valid yet; compare the clocks"
    if isinstance(error, jwt.InvalidIssuerError):
        return f"its issuer (iss) is not {issuer}"
    if isinstance(error, jwt.InvalidSignatureError):
        return "its signature is wrong"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no {error.claim}"
    return "it is malformed"
