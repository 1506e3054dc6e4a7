"""Answers with a study as a ZIP without the people (PS3.15 annex E).

Rules: objects are de-identified while the ZIP is read; none is copied to disk or held in memory.
An object that is held back is not in it; a text file at its end says how many are, and why, and
nothing else of them. If all are held back there is no ZIP, but a problem.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import DeidentificationRequestError, HeldBackError
from lfscp.deidentification.options import options_named
from lfscp.deidentification.pixels.burned_in import device_rules
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.file_sets.package import MAX_PACKED
from lfscp.jobs.file_sets.zipped import zipped
from lfscp.services.deidentifying import deidentified
from lfscp.web.actions.packages import streamed_zip
from lfscp.web.actions.studies import still_there
from lfscp.web.context import Web
from lfscp.web.problems import Problem

_NAME: Final = "HELD_BACK.txt"
_MAX_KEY: Final = 1024  # characters
File = tuple[str, Iterable[memoryview | bytes]]


class DeidentifyIn(BaseModel, extra="forbid"):
    """How a study is de-identified."""

    options: list[str] = Field(
        default=[], max_length=32, description="Such as `retain-modified-dates`."
    )
    key: str | None = Field(
        default=None,
        max_length=_MAX_KEY,
        description="The secret of the project, of 16 bytes or more; without one it is forgotten.",
    )
    devices: list[dict[str, Any]] = Field(
        default=[],
        max_length=1000,
        description="Where devices burn text into images: the keys of a `[[device]]` table.",
    )


def deidentified_zip(
    web: Web, study_uid: str, wanted: DeidentifyIn, look: Callable[[], None]
) -> StreamingResponse:
    """The answer with the ZIP.

    Args:
        look: called for each object; what it raises ends the work.
    Raises:
        Problem: what is wanted is wrong, the study has too many objects, or all are held back.
    """
    try:
        deidentifier = Deidentifier(
            options_named(wanted.options),
            None if wanted.key is None else wanted.key.encode("utf-8", "surrogatepass"),
            device_rules(wanted.devices),
        )
    except DeidentificationRequestError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason) from None
    instances = web.archive.select(Level.STUDY, {Level.STUDY: [study_uid]})
    if len(instances) > MAX_PACKED:
        reason = f"a ZIP holds at most {MAX_PACKED:,} objects, and this study has more"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
    held_back: Counter[str] = Counter()
    files = _files(deidentifier, _looking(web, instances, look), held_back)
    try:
        first = next(files, None)
    except OSError as error:
        raise ArchiveError("read an object", error.strerror or str(error)) from None
    if first is None:
        reason = _told(held_back) or "its objects are gone"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"no object is let out: {reason}")
    content = zipped(itertools.chain([first], files, _note(held_back)))
    return streamed_zip(content, "deidentified")


def _looking(
    web: Web, instances: Iterable[StoredInstance], look: Callable[[], None]
) -> Iterator[StoredInstance]:
    """The objects as they are in the archive now, without those that were deleted."""
    for instance in instances:
        look()
        with suppress(FileNotFoundError):
            yield still_there(web, instance)


def _files(
    deidentifier: Deidentifier, instances: Iterable[StoredInstance], held_back: Counter[str]
) -> Iterator[File]:
    for instance in instances:
        syntax, offset = instance.transfer_syntax_uid, instance.dataset_offset
        try:
            with deidentified(deidentifier, instance.path, syntax, offset) as found:
                folder = f"{found.study_instance_uid}/{found.series_instance_uid}"
                yield f"{folder}/{found.sop_instance_uid}.dcm", found.file()
        except HeldBackError as error:
            held_back[error.reason] += 1
        except FileNotFoundError:
            continue  # it was deleted in the meantime


def _note(held_back: Counter[str]) -> Iterator[File]:
    """What was held back; asked for when all other files are written."""
    if held_back:
        yield _NAME, [f"{_told(held_back)}\n".encode()]


def _told(held_back: Counter[str]) -> str:
    return "; ".join(f"{number} held back: {reason}" for reason, number in held_back.items())
