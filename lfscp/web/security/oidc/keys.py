"""Reads the provider's keys (JWK set), and tells which algorithms each may be used with.

Rules: only public keys, and only algorithms with a public key: a token signed with "none", or with
a secret (HS256), is never accepted. RSA keys have 2048 bits or more. A key for encryption is left
out, and so is one that cannot be read.

Source: RFC 7517, RFC 7518, RFC 8037, RFC 8725.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from lfscp.web.security.oidc.errors import ProviderAwayError

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS: Final = ("Ed25519", "Ed448")
ALGORITHMS: Final = frozenset({*_RSA, *_CURVES.values(), "EdDSA"})
MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 16385)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the provider.

    Args:
        kid: its name; empty if it has none.
        algorithms: those it may be used with.
        public: as the library takes it.
    """

    kid: str
    algorithms: frozenset[str]
    public: Any


def read_keys(document: Mapping[str, Any]) -> tuple[Key, ...]:
    """The keys of a JWK set that can be used.

    Raises:
        ProviderAwayError: there is none.
    """
    listed = document.get("keys")
    entries = listed[:MAX_KEYS] if isinstance(listed, list) else []
    found = tuple(_usable(entries))
    if not found:
        raise ProviderAwayError("it has no keys that can be used")
    return found


def _usable(entries: list[Any]) -> Iterator[Key]:
    for entry in entries:
        if not isinstance(entry, dict) or "d" in entry or entry.get("use", "sig") != "sig":
            continue
        algorithms = _algorithms_of(entry)
        if not algorithms:
            continue
        try:
            public = jwt.PyJWK(entry, algorithm=min(algorithms)).key
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            continue
        if isinstance(public, RSAPublicKey) and public.key_size not in _RSA_BITS:
            continue
        kid = entry.get("kid", "")
        yield Key(kid if isinstance(kid, str) else "", algorithms, public)


def _algorithms_of(entry: Mapping[str, Any]) -> frozenset[str]:
    kind, curve = entry.get("kty"), entry.get("crv")
    fitting: tuple[str, ...] = ()
    if kind == "RSA":
        fitting = _RSA
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        fitting = (_CURVES[curve],)
    elif kind == "OKP" and curve in _EDWARDS:
        fitting = ("EdDSA",)
    named = entry.get("alg")
    if curve == "Ed25519" and named == "Ed25519":  # its newer name (RFC 9864)
        named = "EdDSA"
    return frozenset(each for each in fitting if named in (None, each))
