"""Turns time stamps of HL7 into dates and times of DICOM.

Each function raises ValueError, with what was expected, for a stamp that cannot be one. An empty
text stands for nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from lfscp.hl7.message import Part

_TIME: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d{1,4})?)?)?)?)?)?([+-]\d{4})?"
)


def date(part: Part) -> str:
    """The date of a time stamp; nothing of one that is not known to the day."""
    found = _parts_of_time(part)
    return "".join(found[:3]) if found and found[2] else ""


def local_date(part: Part) -> str:
    """The date of a time stamp, on the clock of this node when it has an offset."""
    return _local(part)[:8]


def local_time(part: Part) -> str:
    """The time of day of the same; midnight when there is none."""
    return _local(part)[8:]


def stamped_time(part: Part) -> str:
    """The time of day of a time stamp; nothing when it has none."""
    found = _parts_of_time(part)
    return local_time(part) if found and found[3] else ""


def _local(part: Part) -> str:
    found = _parts_of_time(part)
    if not found:
        return ""
    year, month, day, hour, minute, second, offset = found
    if not day:
        raise ValueError("is not known to the day")
    stamp = f"{year}{month}{day}{hour or '00'}{minute or '00'}{second or '00'}"
    if offset and hour:
        at = datetime.strptime(stamp + offset, "%Y%m%d%H%M%S%z")
        try:
            return at.astimezone().strftime("%Y%m%d%H%M%S")
        except (OverflowError, OSError) as error:  # in the year 1 or 9999
            raise ValueError("is no date that a clock can show") from error
    return stamp


def _parts_of_time(part: Part) -> tuple[str, ...] | None:
    """Year, month, day, hour, minute, second, offset, each of digits or empty; None for nothing."""
    stamp = part.text()
    if not stamp:
        return None
    found = _TIME.fullmatch(stamp)
    if found is None or not stamp.isascii():
        raise ValueError("is not a time YYYYMMDDHHMMSS")
    year, month, day, hour, minute, second, offset = (each or "" for each in found.groups())
    try:
        datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            tzinfo=UTC,
        )
    except ValueError:
        raise ValueError("is no date and time that there is") from None
    if int(second or 0) > 60 or int(offset[1:] or 0) > 1400:
        raise ValueError("is no date and time that there is")
    return year, month, day, hour, minute, "59" if second == "60" else second, offset
