"""The clock: whether the machine keeps it right, and whether objects came in the future."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from typing import Final

from lfscp.doctor.finding import Finding, fine, warning, wrong

_SUBJECT: Final = "clock"
_UNSYNCHRONISED: Final = 0x0040  # STA_UNSYNC of adjtimex(2)
_MOST_AHEAD_S: Final = 60.0
_ADVICE: Final = "set up NTP: `timedatectl set-ntp true`, or chrony; then `timedatectl` says more"


class _Timex(ctypes.Structure):
    """The beginning of struct timex; the rest is left to the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def examine(newest_s: float | None) -> Iterator[Finding]:
    """The machine's clock.

    Args:
        newest_s: when the newest object came, in seconds since 1970; None if there is none.
    """
    ahead = (newest_s or 0.0) - time.time()
    if ahead > _MOST_AHEAD_S:
        text = f"the newest object came {ahead:.0f} s in the future, so the clock is or was wrong"
        yield wrong(_SUBJECT, text, f"set the clock right; {_ADVICE}")
    synchronised = is_synchronised()
    if synchronised:
        yield fine(_SUBJECT, "the clock is synchronised")
    elif synchronised is None:
        yield fine(_SUBJECT, "the system does not say whether the clock is synchronised")
    else:
        text = "the clock is not synchronised; times of studies and of the audit trail may be wrong"
        yield warning(_SUBJECT, text, _ADVICE)


def is_synchronised() -> bool | None:
    """Whether the kernel says that something keeps the clock right; None if it says nothing."""
    state = _Timex()  # modes 0: it is only read
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "adjtimex") or libc.adjtimex(ctypes.byref(state)) < 0:
        return None
    if os.path.exists("/run/systemd/timesync/synchronized"):  # noqa: PTH110 - a mark
        return True
    return not state.status & _UNSYNCHRONISED
