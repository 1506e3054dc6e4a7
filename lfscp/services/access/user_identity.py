"""Verifies the users and passcodes that associations name (PS3.7 section D.3.3.7).

Hashing a passcode is slow on purpose, and a process hashes one at a time. So that guesses hold up
nobody else, each address has one passcode checked at a time, wrong ones are counted (`attempts`),
and passcodes that were right are remembered as digests, with a key that only this process has. No
passcode itself is kept.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from lfscp.config.access import Identity
from lfscp.config.passwords import hash_password, is_password
from lfscp.services.access.attempts import Attempts

_MAX_KNOWN: Final = 10_000


class UserIdentities:
    """The users of one node. Any thread may call any method."""

    def __init__(self) -> None:
        self._attempts = Attempts(slows_accounts=False)
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._looking: dict[str, tuple[threading.Lock, int]] = {}  # by address: how many hold it

    def is_user(
        self, identity: Identity, name: bytes, passcode: bytes | None, address: str
    ) -> bool:
        """Whether name and passcode are right; an unknown name takes as long as a wrong passcode.

        Args:
            name: in UTF-8, as received.
            passcode: as received; None if none came, which is wrong for a user with a hash.
            address: of the requestor.
        Raises:
            TooManyAttemptsError: too many were wrong; this one was not checked.
        """
        hashed = dict(_split(entry) for entry in identity.users).get(name)
        if hashed == "" or passcode is None:
            return hashed == ""  # no passcode is asked for
        digest = self._digest(hashed or "", name, passcode)
        if self._is_known(digest):
            return True
        with self._turn_of(address):
            return self._is_known(digest) or self._fits(name, passcode, hashed, address, digest)

    def _fits(
        self, name: bytes, passcode: bytes, hashed: str | None, address: str, digest: bytes
    ) -> bool:
        account = name.decode("utf-8", "backslashreplace")
        self._attempts.begin(account, address)
        try:
            text = passcode.decode()
        except UnicodeDecodeError:
            text = ""
        if not is_password(text, hashed or _nobodys_hash()) or hashed is None:
            return False
        self._attempts.succeeded(account, address)
        with self._lock:
            self._known[digest] = None
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return True

    def _digest(self, hashed: str, name: bytes, passcode: bytes) -> bytes:
        # With the hash, so that a new one in the configuration makes the old digest useless.
        parts = (hashed.encode(), name, passcode)
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, text, "sha256")

    def _is_known(self, digest: bytes) -> bool:
        with self._lock:
            return digest in self._known

    @contextmanager
    def _turn_of(self, address: str) -> Iterator[None]:
        """Wait until no other passcode of this address is being checked."""
        with self._lock:
            turn, count = self._looking.get(address, (threading.Lock(), 0))
            self._looking[address] = turn, count + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, count = self._looking.pop(address)
                if count > 1:
                    self._looking[address] = turn, count - 1


def _split(entry: str) -> tuple[bytes, str]:
    name, _, hashed = entry.partition(":")
    return name.strip().encode(), hashed


@cache
def _nobodys_hash() -> str:
    return hash_password("")
