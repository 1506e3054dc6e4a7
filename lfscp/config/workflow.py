"""The settings of the modality workflow: worklist, storage commitment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from lfscp.config.checks import Amount, Seconds, check_folder
from lfscp.config.declaration import Section, setting


def check_folder_or_none(text: str) -> str:
    """A folder as an absolute path, or nothing."""
    return str(check_folder(Path(text))) if text else ""


class Worklist(Section):
    """The modality worklist (PS3.4 annex K): what devices are to examine."""

    folder: Annotated[str, AfterValidator(check_folder_or_none)] = setting(
        "",
        "Folder of worklist files (.wl), as other worklist servers use it. The node sees files "
        "that come, change and go. Empty means none.",
    )
    keep_days: Amount = setting(
        30.0,
        "How long an item is kept after the day of its last step, in days. 0 keeps it for ever. "
        "Items of files stay as long as their files.",
    )


class Commitment(Section):
    """Storage commitment (PS3.4 annex J): the node promises to keep what it was sent."""

    verify: Literal["digest", "size", "index"] = setting(
        "digest",
        "What the node looks at before it commits to an object. digest: it reads the object and "
        "compares the digest. size: the object is there with its size. index: it is in the index.",
        live=True,
    )
    keep_days: Amount = setting(
        0.0,
        "For how long retention leaves a study alone after the node has committed to one of its "
        "objects, in days. 0: it does not.",
    )
    retry_hours: Seconds = setting(
        24.0,
        "For how long the node tries again to send a report to a peer that is away, in hours.",
    )
    wait_hours: Seconds = setting(
        24.0,
        "For how long a job that sends, and wants the receiver to commit, waits for its report, in "
        "hours.",
    )
