"""The log line of each service performed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from lfscp.archive.errors import OutOfResourcesError
from lfscp.observe.logging import configure
from lfscp.services.called import called_ae_title
from lfscp.services.service_log import (
    association_fields,
    describe,
    failed_unexpectedly,
    performed,
)

Lines = Callable[[], list[dict[str, Any]]]


class FakeAssociation:
    serial = 7
    name = "thread"

    def __init__(self) -> None:
        request = SimpleNamespace(calling_ae_title="SENDER  ", called_ae_title="LFSCP   ")
        self.requestor = SimpleNamespace(
            ae_title="SENDER  ", address="192.0.2.1", port=4000, primitive=request
        )


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """Every line written since the test began."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    configure("info", "json", descriptor=descriptor)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    configure("info")  # or the next lines go where this descriptor's number is used again
    structlog.reset_defaults()
    os.close(descriptor)


def event() -> Any:
    return SimpleNamespace(assoc=FakeAssociation())


def test_line_says_who_what_and_how(lines: Lines) -> None:
    performed(event(), "C-STORE", 0x0000, time.monotonic(), sop_instance_uid="1.2.3", bytes=8)

    (line,) = lines()
    assert line.pop("duration_ms") >= 0
    line.pop("time")
    assert line == {
        "level": "info",
        "logger": "lfscp.services",
        "event": "C-STORE",
        "association": 7,
        "calling_ae_title": "SENDER",
        "called_ae_title": "LFSCP",
        "peer": "192.0.2.1:4000",
        "service": "C-STORE",
        "sop_instance_uid": "1.2.3",
        "bytes": 8,
        "status": "0x0000",
    }


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (0x0000, "info"),
        (0xFE00, "info"),
        (0xB000, "info"),
        (0xA700, "warning"),
        (0xC001, "warning"),
        (0x0124, "warning"),
    ],
)
def test_failures_are_warnings(lines: Lines, status: int, level: str) -> None:
    performed(event(), "C-FIND", status, time.monotonic(), reason="why")

    (line,) = lines()
    assert (line["level"], line["reason"]) == (level, "why")


def test_who_may_not_is_told_where_that_is_set(lines: Lines) -> None:
    performed(event(), "N-ACTION", 0x0124, time.monotonic(), reason="why")

    (line,) = lines()
    assert line["hint"] == "peers.SENDER.may does not allow it"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("invalid value 'Doe^Jane'"), "internal error, see the log"),
        (FileNotFoundError(2, "No such file"), "No such file"),
        (FileNotFoundError(2, "No such file", "/data/1.dcm"), "No such file: /data/1.dcm"),
        (ConnectionResetError(), "the system gives no reason"),
        (OutOfResourcesError("store", "disk full"), "cannot store: disk full"),
    ],
)
def test_description_quotes_only_what_is_safe(error: Exception, expected: str) -> None:
    assert describe(error) == expected


def test_unexpected_failure_names_place_but_no_value(lines: Lines) -> None:
    try:
        raise ValueError("invalid value 'Doe^Jane'")
    except ValueError as error:
        failed_unexpectedly(event(), "C-FIND", error)

    (line,) = lines()
    assert line["level"] == "error"
    assert line["where"].startswith("test_service_log.py:")
    assert line["reason"] == "ValueError"
    assert "Doe" not in json.dumps(line)


def test_association_without_a_request_yet_calls_nobody() -> None:
    association: Any = SimpleNamespace(requestor=SimpleNamespace(primitive=None))

    assert called_ae_title(association) == ""


def test_who_looks_while_the_request_is_being_read_changes_nothing() -> None:
    association: Any = FakeAssociation()
    association.requestor.ae_title = ""  # it is set a moment after the request
    fields = association_fields(association)
    association.requestor.ae_title = "SENDER  "
    assert (fields["calling_ae_title"], fields["called_ae_title"]) == ("SENDER", "LFSCP")
    assert association_fields(association) == fields
