"""Says what jobs are about in the words of people: patients and studies, not UIDs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lfscp.archive.index.browsing.named_studies import NamedStudy, named_studies
from lfscp.jobs.model import Job, JobKind
from lfscp.web.context import Web
from lfscp.web.pages.templating import text

STUDIES_SHOWN: Final = 3  # of one job
KEYS_SHOWN: Final = 4
VALUES_SHOWN: Final = 3  # of one key
PROBLEMS_SHOWN: Final = 8  # reasons of one job, each with a few objects
_LABELS: Final = {
    "PatientName": "name",
    "PatientID": "patient ID",
    "PatientBirthDate": "born",
    "AccessionNumber": "accession number",
    "ModalitiesInStudy": "modality",
    "Modality": "modality",
    "StudyDate": "study date",
    "StudyDescription": "description",
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One study of a job; the texts are as received.

    Args:
        is_here: whether the archive has it.
        series: descriptions of the series that are asked for, if not all are.
    """

    study: NamedStudy
    is_here: bool
    series: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobSubject:
    """What a job is about.

    Args:
        studies: some of them; `more` is how many are left out.
        keys: what a query asks for, as "name: DOE*".
        paths: files and folders.
        problems: reason, number of objects, and some of these.
        took_s: how long it ran, once it has ended.
    """

    studies: tuple[Subject, ...] = ()
    more: int = 0
    keys: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    problems: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    took_s: float | None = None


def subjects_of(web: Web, jobs: Iterable[Job]) -> dict[str, JobSubject]:
    """What each job is about, by its id; the index is asked once for all of them.

    Raises:
        ArchiveError: the index cannot be read.
    """
    uids = {job.id: _study_uids(job) for job in jobs}
    wanted = {uid for each in uids.values() for uid in each[:STUDIES_SHOWN]}
    with web.index() as connection:
        here = named_studies(connection, wanted)
    return {job.id: _subject(job, uids[job.id], here) for job in jobs}


def _subject(job: Job, uids: list[str], here: Mapping[str, NamedStudy]) -> JobSubject:
    studies = tuple(_study(job, uid, here) for uid in uids[:STUDIES_SHOWN])
    return JobSubject(
        studies,
        len(uids) - len(studies),
        _keys(job),
        tuple(str(each) for each in (job.parameters.get("paths") or [])[:VALUES_SHOWN]),
        _problems(job),
        _took_s(job),
    )


def _study_uids(job: Job) -> list[str]:
    """The studies that a job names, or has found."""
    keys = job.parameters.get("keys") or {}
    asked = job.parameters.get("studies") or keys.get("StudyInstanceUID") or []
    found = job.result.get("studies", []) if isinstance(job.result, dict) else []
    named = asked if isinstance(asked, list) else [asked]
    if job.kind in (JobKind.ECHO, JobKind.FIND):
        return []
    return [str(each) for each in named or found]


def _study(job: Job, uid: str, here: Mapping[str, NamedStudy]) -> Subject:
    told = [each for each in job.parameters.get("about", []) if _told_uid(each) == uid]
    series = tuple(dict.fromkeys(filter(None, (each.get("SeriesDescription") for each in told))))
    if uid in here:
        return Subject(here[uid], True, series)
    of = told[0] if told else {}
    names = ("PatientName", "PatientID", "StudyDate", "StudyDescription")
    return Subject(NamedStudy(uid, *(of.get(name, "") for name in names)), False, series)


def _told_uid(told: Mapping[str, str]) -> str:
    return told.get("StudyInstanceUID", "")


def _keys(job: Job) -> tuple[str, ...]:
    """The keys that match something, without the UIDs of the studies that are named already."""
    shown = []
    for keyword, value in (job.parameters.get("keys") or {}).items():
        if keyword == "StudyInstanceUID" and job.kind is not JobKind.FIND:
            continue
        values = [str(each) for each in (value if isinstance(value, list) else [value]) if each]
        if values:
            more = f" and {len(values) - VALUES_SHOWN} more" if len(values) > VALUES_SHOWN else ""
            label = _LABELS.get(keyword, keyword)
            shown.append(f"{label}: {', '.join(values[:VALUES_SHOWN])}{more}")
    return tuple(shown[:KEYS_SHOWN])


def _problems(job: Job) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """The problems of a job by their reasons, the most frequent first."""
    found = job.result.get("problems", []) if isinstance(job.result, dict) else []
    counted = Counter(each["reason"] for each in found)
    return tuple(
        (reason, number, tuple(_places(found, reason)))
        for reason, number in counted.most_common(PROBLEMS_SHOWN)
    )


def _places(problems: Iterable[Mapping[str, Any]], reason: str) -> list[str]:
    places = [text(each["what"]) for each in problems if each["reason"] == reason]
    return places[:VALUES_SHOWN]


def _took_s(job: Job) -> float | None:
    if not (job.started_at and job.ended_at):
        return None
    began, ended = map(datetime.fromisoformat, (job.started_at, job.ended_at))
    return max(0.0, (ended - began).total_seconds())
