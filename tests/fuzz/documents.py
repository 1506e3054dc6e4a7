"""Reports and waveforms that anybody may have sent, read for the page."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

from pydicom.data import get_testdata_file

from lfscp.web.documents.report import MAX_CHARACTERS, MAX_DEPTH, MAX_LINES, report
from lfscp.web.documents.waveforms import MAX_GROUPS, MAX_POINTS, curves, groups
from lfscp.web.imaging.errors import NoPictureError

_SAMPLES = ("test-SR.dcm", "reportsi.dcm", "waveform_ecg.dcm")
_POINTS = 100


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="lfscp-fuzz-")) / "object.dcm"


def run_documents(data: bytes) -> None:
    """An object as a report and as curves: within the limits, and as JSON for a browser."""
    file = _file()
    file.write_bytes(data)
    with contextlib.suppress(NoPictureError):
        found = report(file)
        assert len(found.lines) <= MAX_LINES + 1
        assert all(each.depth <= MAX_DEPTH for each in found.lines)
        assert sum(len(each.value) for each in found.lines) <= 2 * MAX_CHARACTERS
        json.dumps(asdict(found), allow_nan=False, ensure_ascii=False).encode()
    with contextlib.suppress(NoPictureError):
        described, notes = groups(file)
        assert len(described) <= MAX_GROUPS
        json.dumps(
            [[asdict(each) for each in described], notes], allow_nan=False, ensure_ascii=False
        ).encode()
        for number in range(len(described)):
            with contextlib.suppress(NoPictureError):
                drawn = curves(file, number, 0.1, 1e9, _POINTS)
                assert all(len(each) <= MAX_POINTS for each in drawn.points)
                json.dumps(asdict(drawn), allow_nan=False, ensure_ascii=False)


def documents_seeds() -> Iterator[bytes]:
    """Reports and an ECG; of each, also its beginning."""
    for name in _SAMPLES:
        content = Path(str(get_testdata_file(name))).read_bytes()
        yield content[:20_000]
        yield content[:3000]
