"""The audit trail is read backwards for the page, in JSON and in XML alike."""

from __future__ import annotations

from contextvars import copy_context
from pathlib import Path

import pytest

from lfscp.observe import audit
from lfscp.observe.audit import AuditedPeer, Transfer
from lfscp.observe.audit import reading as audit_reading
from lfscp.observe.audit.message import Patient
from lfscp.observe.audit.reading import AuditReader

PEER = AuditedPeer("CT1", "10.0.0.7")


@pytest.fixture(params=["json", "xml"])
def trail(request: pytest.FixtureRequest, tmp_path: Path):
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", format=request.param)
    audit.instances_received(
        PEER, "1.2.3", Transfer({"1.2.840.10008.5.1.4.1.1.2": 3}), Patient("P1", "Doe^<Jane>")
    )
    audit.association_rejected(PEER, "LFSCP", "it is not in [peers]")

    def look() -> None:
        audit.act_as("anna", "10.0.0.8")
        audit.log_used(path.as_uri())

    copy_context().run(look)
    audit.stop()
    return path


def test_records_come_newest_first_with_who_what_and_outcome(trail: Path) -> None:
    used, rejected, stored = AuditReader(trail).records()

    assert (used.event, used.outcome) == ("Audit Log Used", "success")
    assert used.who == ("anna (10.0.0.8)",)
    assert used.what == (f"URI {trail.as_uri()} Security Audit Log",)
    assert rejected.event == "Security Alert: Node Authentication"
    assert (rejected.outcome, rejected.reason) == ("failure", "it is not in [peers]")
    assert "CT1 (10.0.0.7)" in stored.who
    assert any("P1" in each and "Doe^<Jane>" in each for each in stored.what)
    assert stored.has("1.2.3")
    assert stored.has("doe^<jane")
    assert not stored.has("anna")


def test_renamed_files_are_read_too_and_a_look_is_limited(
    trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.rename(f"{trail}.1")
    trail.write_bytes(b'{"cut off')
    assert len(list(AuditReader(trail).records())) == 3

    monkeypatch.setattr(audit_reading, "MAX_READ_BYTES", 900)
    reader = AuditReader(trail)
    assert len(list(reader.records())) < 3
    assert reader.is_cut
