"""Tells whether a route may send at a time: its days and hours, by this machine's clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from lfscp.config.routes import RouteSettings

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def is_open(route: RouteSettings, at: datetime) -> bool:
    """Whether a route may send.

    Args:
        at: local time. A span that passes midnight belongs to the day on which it begins.
    """
    today, yesterday = _is_day(route, at), _is_day(route, at - timedelta(days=1))
    if not route.hours:
        return today
    minute = at.hour * 60 + at.minute
    for span in route.hours:
        begin, end = (_minute(each) for each in span.split("-"))
        if begin < end:
            if today and begin <= minute < end:
                return True
        elif (today and minute >= begin) or (yesterday and minute < end):
            return True
    return False


def _is_day(route: RouteSettings, at: datetime) -> bool:
    return not route.days or _DAYS[at.weekday()] in route.days


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)
