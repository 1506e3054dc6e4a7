"""Names the files of rendered pictures, so that each says of which object it is."""

from __future__ import annotations

from typing import Final

_MARK: Final = "~"  # in no UID


def part_of(sop_instance_uid: str, name: str) -> str:
    """What follows in the name of a file of the cache."""
    return f"{_MARK}{sop_instance_uid}{_MARK}{name}"


def uid_in(file_name: str) -> str:
    """The SOP Instance UID in the name of such a file; empty if there is none."""
    parts = file_name.split(_MARK)
    return parts[1] if len(parts) == len(("hash", "uid", "name")) else ""
