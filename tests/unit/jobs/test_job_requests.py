"""Requests that cannot be jobs name the field that is to blame; folders stay below their roots."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from lfscp.jobs.model import Job, JobKind
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.roots import allowed_path
from lfscp.jobs.timer import JobTimer
from lfscp.scu.peer import Peer

PACS = Peer("PACS", "127.0.0.1", 104)
KEYS = {"StudyInstanceUID": "1.2.3"}


@pytest.mark.parametrize(
    ("kind", "peer", "parameters", "field"),
    [
        ("delete", PACS, {}, "kind"),
        ("echo", [], {}, "peer"),
        ("retrieve", [PACS, PACS], {"keys": KEYS}, "peer"),
        ("echo", PACS, {"keys": KEYS}, "parameters.keys"),
        ("find", PACS, {}, "parameters.keys"),
        ("find", PACS, {"keys": {"PatientNam": "x"}}, "parameters.keys.PatientNam"),
        ("find", PACS, {"keys": {"PatientName": {"a": 1}}}, "parameters.keys.PatientName"),
        ("find", PACS, {"keys": KEYS, "level": "FRAME"}, "parameters.level"),
        ("find", PACS, {"keys": KEYS, "level": "PATIENT"}, "parameters.level"),
        ("find", PACS, {"keys": KEYS, "limit": 0}, "parameters.limit"),
        ("find", PACS, {"keys": KEYS, "limit": "10"}, "parameters.limit"),
        ("retrieve", PACS, {"keys": {"StudyInstanceUID": ""}}, "parameters.keys"),
        ("retrieve", PACS, {"keys": KEYS, "method": "post"}, "parameters.method"),
        ("retrieve", PACS, {"keys": KEYS, "destination": "A" * 17}, "parameters.destination"),
        ("find", PACS, {"keys": KEYS, "hierarchical": "yes"}, "parameters.hierarchical"),
        (
            "retrieve",
            PACS,
            {"keys": {"AccessionNumber": ["1*"]}},
            "parameters.keys.AccessionNumber",
        ),
        ("retrieve", PACS, {"keys": {"PatientID": ["1", ""]}}, "parameters.keys.PatientID"),
        (
            "retrieve",
            PACS,
            {"keys": {"PatientID": ["1"], "AccessionNumber": ["2"]}},
            "parameters.keys.PatientID",
        ),
        (
            "retrieve",
            PACS,
            {"keys": {"PatientID": ["1"] * 10_001}},
            "parameters.keys.PatientID",
        ),
        (
            "retrieve",
            PACS,
            {"keys": {"PatientID": ["1"]}, "level": "SERIES"},
            "parameters.keys.PatientID",
        ),
        ("retrieve", PACS, {"keys": KEYS, "about": [{"Rows": "1"}]}, "parameters.about"),
        ("collect", PACS, {"keys": KEYS, "about": "Doe"}, "parameters.about"),
        ("send", PACS, {}, "parameters"),
        ("send", PACS, {"paths": "/srv"}, "parameters.paths"),
        ("send", PACS, {"studies": [1]}, "parameters.studies"),
    ],
)
def test_a_request_that_cannot_be_a_job_names_its_field(
    kind: str, peer: Any, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        JobRequest(kind, peer, parameters).check()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        (JobKind.ECHO, {}, "C-Echo request: PACS@127.0.0.1:104"),
        (
            JobKind.FIND,
            {"keys": {"PatientID": "1", "StudyDate": ""}},
            "C-Find request: {} PatientID=1",
        ),
        (JobKind.RETRIEVE, {"keys": KEYS}, "C-Get request: {} StudyInstanceUID=1.2.3"),
        (JobKind.SEND, {"paths": ["/srv/in"]}, "C-Store request: {} /srv/in"),
    ],
)
def test_descriptions_are_those_of_dtools(
    kind: JobKind, parameters: dict[str, Any], expected: str
) -> None:
    job = Job("1", kind, (PACS,), parameters)
    assert job.description == f"sleeping job: {expected.format('PACS@127.0.0.1:104')}"


def test_paths_stay_below_their_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "in").mkdir(parents=True)
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    assert allowed_path(root / "in", [root]) == root / "in"
    assert allowed_path("in", [root]) == root / "in"
    for path in (outside, "../outside", root / "link", f"{root}-more", "/etc/passwd", "a\0b", ""):
        with pytest.raises(InvalidRequestError):
            allowed_path(path, [root])
    with pytest.raises(InvalidRequestError, match="no such file"):
        allowed_path(root / "gone", [root])
    with pytest.raises(InvalidRequestError):
        allowed_path(root / "loop", [root])
    with pytest.raises(InvalidRequestError, match=r"set web\.roots"):
        allowed_path(root, [])


def test_the_timer_wakes_jobs_in_order_and_not_a_cancelled_one() -> None:
    rung: list[str] = []
    all_rung = threading.Event()

    def ring(name: str) -> None:
        rung.append(name)
        if name == "last":
            all_rung.set()

    timer = JobTimer(ring)
    timer.set("last", 0.5)
    timer.set("cancelled", 0.2)
    timer.set("first", 0.01)
    assert timer.cancel("cancelled")
    assert not timer.cancel("unknown")
    assert all_rung.wait(30)
    timer.stop()
    timer.set("after the end", 0)
    assert rung == ["first", "last"]
