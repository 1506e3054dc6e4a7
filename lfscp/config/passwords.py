"""Hashes and verifies passwords and tokens; the configuration keeps their hashes only.

A password is short, so its hash is slow on purpose (scrypt, 16 MB). A token is 256 random bits, so
one SHA-256 is enough, and cheap at each request. Comparisons take constant time. One thread hashes
all passwords of a process: in many threads, each would take 16 MB, and the C library would keep it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

_COST: Final = (1 << 14, 8, 1)  # n, r, p: 16 MB and some 50 ms
_SALT_BYTES: Final = 16
_MAX_MEMORY: Final = 256 << 20  # a hash in the configuration may ask for no more
_TOKEN: Final = "sha256$"  # noqa: S105 - the name of the method


def hash_password(password: str) -> str:
    """Hash a password for the setting `web.users`: "scrypt$n$r$p$salt$hash"."""
    salt = secrets.token_bytes(_SALT_BYTES)
    n, r, p = _COST
    digest = _scrypt(password, salt, n, r, p)
    salt64, digest64 = (base64.b64encode(each).decode("ascii") for each in (salt, digest))
    return f"scrypt${n}${r}${p}${salt64}${digest64}"


def is_password(password: str, hashed: str) -> bool:
    """Whether a password fits a hash; a malformed hash fits none."""
    try:
        method, n, r, p, salt, digest = hashed.split("$")
        if method != "scrypt":
            return False
        actual = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
        return hmac.compare_digest(actual, base64.b64decode(digest))
    except (ValueError, binascii.Error, OverflowError):
        return False


def new_token() -> tuple[str, str]:
    """A new bearer token, and its hash for the setting `web.token_hash`."""
    token = secrets.token_urlsafe(32)
    return token, hash_token(token)


def hash_token(token: str) -> str:
    """Hash a bearer token: "sha256$hex"."""
    return _TOKEN + hashlib.sha256(token.encode()).hexdigest()


def is_token(token: str, hashed: str) -> bool:
    """Whether a token fits a hash; an empty hash fits none."""
    return bool(hashed) and hmac.compare_digest(hash_token(token), hashed)


_thread: ThreadPoolExecutor | None = None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    global _thread
    if _thread is None:
        _thread = ThreadPoolExecutor(1, "lfscp-passwords")
    work = partial(hashlib.scrypt, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)
    return _thread.submit(work, password.encode()).result()


def _forget_thread() -> None:
    global _thread
    _thread = None


os.register_at_fork(after_in_child=_forget_thread)
