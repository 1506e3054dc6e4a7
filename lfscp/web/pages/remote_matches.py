"""The matches of a search at a peer: which are shown, and which a person has chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from lfscp.jobs.model import Job
from lfscp.jobs.request import ABOUT, MAX_ABOUT
from lfscp.web.actions.jobs import job_of
from lfscp.web.context import Web
from lfscp.web.pages.templating import text
from lfscp.web.problems import Problem

MAX_MATCHES: Final = 1000  # of one search, so that a page stays a page
_MAX_CELL: Final = 200  # characters of one value
_MAX_VALUES: Final = 20
RETURNED: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
RETURNED_OF_SERIES: Final = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A study that was chosen, or one of its series."""

    study_uid: str
    series_uid: str = ""


def searches_of(web: Web, jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Each search with what a page shows of its matches."""
    return [
        {
            "job": job,
            "is_of_series": job.parameters.get("level") == "SERIES",
            "matches": _shown(web, job) if job.state.is_end else [],
        }
        for job in jobs
    ]


def _shown(web: Web, job: Job) -> list[dict[str, Any]]:
    found = itertools.islice(web.jobs.matches(job), MAX_MATCHES)
    shown = [
        {name: _cell(match.get(name)) for name in (*RETURNED, *RETURNED_OF_SERIES)}
        for match in found
    ]
    if job.parameters.get("level") == "SERIES":
        for each in shown:  # a DICOMweb server does not repeat what its URL has named
            each["StudyInstanceUID"] = each["StudyInstanceUID"] or _asked_study(job)
        shown.sort(key=lambda each: (text(each["StudyInstanceUID"]), _number(each["SeriesNumber"])))
    return shown


def _asked_study(job: Job) -> str:
    return text(job.parameters["keys"].get("StudyInstanceUID"))


def _number(value: Any) -> int:
    digits = text(value).strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else 0


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return [_cell(each) for each in value[:_MAX_VALUES]]
    if isinstance(value, str) and len(value) > _MAX_CELL:
        return f"{value[:_MAX_CELL]}…"
    return value


def chosen_of(web: Web, chosen: list[str]) -> list[tuple[Job, list[Chosen]]]:
    """What was chosen, by the search that found it.

    Args:
        chosen: "job id|Study Instance UID", and for a series "|Series Instance UID" after it.
    Raises:
        Problem: nothing was chosen, or the search is gone.
    """
    grouped: dict[str, dict[Chosen, None]] = {}
    for each in chosen:
        job_id, _, uids = each.partition("|")
        study_uid, _, series_uid = uids.partition("|")
        if study_uid:
            grouped.setdefault(job_id, {})[Chosen(study_uid, series_uid)] = None
    if not grouped:
        raise Problem(422, "choose at least one study or series in the results")
    return [(job_of(web, job_id), list(some)) for job_id, some in grouped.items()]


def told_of(
    web: Web, found: Job, chosen: Iterable[Chosen], most: int = MAX_ABOUT
) -> list[dict[str, str]]:
    """What a search has told of what was chosen of it, for people."""
    wanted = set(chosen)
    studies = {each.study_uid for each in wanted}
    told = []
    for match in web.jobs.matches(found):
        study_uid = text(match.get("StudyInstanceUID")) or _asked_study(found)
        one = Chosen(study_uid, text(match.get("SeriesInstanceUID")))
        if one in wanted or (study_uid in studies and Chosen(study_uid) in wanted):
            facts = {name: text(_cell(match.get(name)))[:_MAX_CELL] for name in ABOUT}
            told.append(facts | {"StudyInstanceUID": study_uid})
        if len(told) == most:
            break
    return told
