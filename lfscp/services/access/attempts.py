"""Counts wrong passwords by account and address, and makes those who guess wait.

Rules: an attempt counts before its password is checked, and no longer once the password was right.
So guesses sent all at once gain nothing. There are three counts:

- of an account from one address: after 10, a minute's wait;
- of an address, for any account: after 50, a minute's wait;
- of an account from any address: after 20, one attempt at a time, a second after the one before,
  then two, then four, up to a minute, until there was none for a quarter of an hour.

The last count is not used where many devices share an account, because a stranger's guesses would
lock all of them out. From an address where the account has logged in before, only the first count
holds for it: guesses from elsewhere never lock its owner out.

Source: OWASP Authentication Cheat Sheet, on lockout and on its use against those locked out.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_FAILURES: Final = 10  # of an account from one address
MAX_FAILURES_OF_ADDRESS: Final = 50
MAX_FAILURES_OF_ACCOUNT: Final = 20  # before they are slowed down
WAIT_S: Final = 60.0
FORGOTTEN_S: Final = 900.0  # when an account's count is
_MAX_KEPT: Final = 10_000
_MAX_DOUBLINGS: Final = 10
_Key = tuple[str, ...]


@dataclass(slots=True)
class _Count:
    number: int = 0
    last: float = 0.0


class TooManyAttemptsError(Exception):
    """There were too many attempts.

    Args:
        wait_s: how long to wait before the next one.
        is_first: whether this is the first refusal of this wait.
    """

    def __init__(self, wait_s: float, *, is_first: bool) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s
        self.is_first = is_first


class Attempts:
    """The counts of one node. Any thread may call any method.

    Args:
        now: a monotonic clock, in seconds.
        slows_accounts: whether an account is also counted from all addresses together.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, *, slows_accounts: bool = True
    ) -> None:
        self._now = now
        self._slows_accounts = slows_accounts
        self._lock = threading.Lock()
        self._counts: OrderedDict[_Key, _Count] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, account: str, address: str) -> None:
        """Count an attempt; it is wrong until `succeeded` is called.

        Raises:
            TooManyAttemptsError: do not check the password.
        """
        with self._lock:
            now = self._now()
            counts = []
            if (account, address) not in self._known:
                # First, so that refused guesses at many names push out no count.
                counts.append(self._count(("address", address), WAIT_S, now))
                _require(counts[-1], MAX_FAILURES_OF_ADDRESS, now)
                if self._slows_accounts:
                    counts.append(self._count(_of_account(account), FORGOTTEN_S, now))
                    _require_slow(counts[-1], now)
            counts.append(self._count(_of_pair(account, address), WAIT_S, now))
            _require(counts[-1], MAX_FAILURES, now)
            for each in counts:
                each.number += 1
                each.last = now

    def begin_with_token(self, address: str) -> None:
        """Count a wrong token; it is more often an old script than a guess.

        Raises:
            TooManyAttemptsError: there were too many from this address.
        """
        with self._lock:
            now = self._now()
            count = self._count(("token", address), WAIT_S, now)
            _require(count, MAX_FAILURES_OF_ADDRESS, now)
            count.number, count.last = count.number + 1, now

    def succeeded(self, account: str, address: str) -> None:
        """Note that the password of the attempt was right."""
        with self._lock:
            self._counts.pop(_of_pair(account, address), None)
            for key in (("address", address), _of_account(account)):
                count = self._counts.get(key)
                if count is not None and count.number and (account, address) not in self._known:
                    count.number -= 1
            self._known[account, address] = None
            self._known.move_to_end((account, address))
            if len(self._known) > _MAX_KEPT:
                self._known.popitem(last=False)

    def _count(self, key: _Key, forgotten_s: float, now: float) -> _Count:
        count = self._counts.get(key)
        if count is None or now - count.last >= forgotten_s:
            count = self._counts[key] = _Count(0, now)
        self._counts.move_to_end(key)
        if len(self._counts) > _MAX_KEPT:
            self._counts.popitem(last=False)
        return count


def _of_pair(account: str, address: str) -> _Key:
    return ("pair", _short(account), address)


def _of_account(account: str) -> _Key:
    return ("account", _short(account))


def _short(account: str) -> str:
    return hashlib.sha256(account.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _require(count: _Count, most: int, now: float) -> None:
    if count.number >= most:
        is_first = count.number == most
        count.number += is_first  # so that only one refusal is the first
        raise TooManyAttemptsError(count.last + WAIT_S - now, is_first=is_first)


def _require_slow(count: _Count, now: float) -> None:
    over = count.number - MAX_FAILURES_OF_ACCOUNT
    if over < 0:
        return
    wait_s = count.last + min(2.0 ** min(over, _MAX_DOUBLINGS), WAIT_S) - now
    if wait_s > 0:
        raise TooManyAttemptsError(wait_s, is_first=False)
