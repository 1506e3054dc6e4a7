"""The node's pages: health with reasons, disks, rates, log, audit trail, and settings in force."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive, Statistics
from lfscp.config import Settings, resolve_settings
from lfscp.config.current import renew
from lfscp.config.passwords import hash_password
from lfscp.observe import audit, logging
from lfscp.observe.logging import get_logger
from lfscp.observe.recent_log import RecentLog
from lfscp.web.status import stored_lately
from lfscp.web.status.archive_counts import Lately
from tests.support.web_app import serving, serving_archive

HASH = hash_password("correct horse")
FILE = f"""
duplicates = "reject"
web.users = ["anna:admin:{HASH}"]
server.ae_title = "MAIN"
[peers.CLOUD]
url = "https://pacs.example.org/dicom-web"
token = "very-secret-token"
"""


def plain(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_all_is_well_with_disks_rates_and_a_forecast(filled: TestClient) -> None:
    page = filled.get("/node").text
    assert "All is well" in page
    said = plain(page)
    assert "7 objects" in said or "6 objects" in said
    assert "Objects and index:" in said
    assert re.search(r"Full in about [\d,]+ days at|lasts for more than ten years", said)
    assert page.count('class="bar"') == 24
    assert "followers wait to lead" in said


def test_what_is_not_well_is_said_with_its_reason(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive: Archive = filled.app.state.web.archive  # type: ignore[attr-defined]
    monkeypatch.setattr(archive.space, "_reserve_mb", 10**9)

    said = plain(filled.get("/node/health").text)
    assert "Not all is well" in said
    assert re.search(r"disk \d+ MB are free, below the reserve of 1e\+09 MB", said)
    assert "full in about 0 days if stores go on as lately" in said


def test_a_growing_archive_is_forecast_from_the_last_days(tmp_path: Path, filled: Any) -> None:
    rates = filled.app.state.web.store_rates
    now = int(time.time() * 1000)
    found = rates._count(now)
    assert (len(found.hours), found.days) == (24, 1.0)
    assert found.instances == sum(each.instances for each in found.hours) > 0
    assert found.bytes_a_day == found.size
    in_ten_days = rates._count(now + 10 * stored_lately.DAY_MS)
    assert in_ten_days.instances == 0
    assert in_ten_days.bytes_a_day == pytest.approx(found.size / 10, rel=0.02)
    assert rates._count(now + 20 * stored_lately.DAY_MS).bytes_a_day == 0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(tmp_path / "data") as client:
        logging.keep_recent(RecentLog(tmp_path / "data", 1_000_000))
        yield client
        logging.keep_recent(None)


def test_the_log_is_filtered_by_level_and_text(client: TestClient) -> None:
    log = get_logger("lfscp.tests")
    log.warning("almost full", peer="<b>CT1</b>")
    log.error("full", reason="no space left")

    page = client.get("/node/log").text
    assert page.index("no space left") < page.index("almost full")
    assert "&lt;b&gt;CT1" in page
    assert "almost full" not in client.get("/node/log?level=error").text
    assert "no space left" not in client.get("/node/log?q=ct1").text
    assert "No line fits" in client.get("/node/log?q=nobody").text
    assert "1 error, 1 warning" in plain(client.get("/node").text)
    (line,) = client.get("/api/log?level=error").json()
    assert (line["event"], line["fields"]) == ("full", {"reason": "no space left"})


def test_the_audit_trail_is_shown_and_that_it_was_is_in_it(
    client: TestClient, tmp_path: Path
) -> None:
    audit.start(tmp_path / "data" / "audit.log", "LFSCP")
    try:
        audit.association_rejected(audit.AuditedPeer("CT9", "10.0.0.9"), "LFSCP", "not known")
        page = plain(client.get("/node/audit").text)
        assert "Security Alert: Node Authentication" in page
        assert "CT9 (10.0.0.9)" in page
        again = plain(client.get("/node/audit?outcome=success").text)
    finally:
        audit.stop()
    assert "Audit Log Used" in again
    assert "CT9" not in again


def test_settings_in_force_have_their_sources_and_no_secrets(tmp_path: Path) -> None:
    file = tmp_path / "lfscp.toml"
    file.write_text(FILE)

    def read() -> Settings:
        return resolve_settings(
            file,
            environment={"LFSCP_JOBS__MAX_ACTIVE": "7"},
            flags={"data_dir": str(tmp_path / "data")},
        ).settings

    settings = read()
    with (
        Archive.open(tmp_path / "data", durability="os") as archive,
        serving_archive(archive, settings) as client,
    ):
        client.auth = ("anna", "correct horse")
        found = {each["name"]: each for each in client.get("/api/settings").json()}
        page = client.get("/node/settings?changed=true").text
    assert found["duplicates"]["source"] == str(file)
    assert found["jobs.max_active"]["source"] == "environment LFSCP_JOBS__MAX_ACTIVE"
    assert found["data_dir"]["source"] == "flag --data-dir"
    assert found["server.port"]["source"] == "default"
    assert found["web.users"]["value"] == '["anna:admin:***"]'
    assert found["peers.CLOUD.token"]["value"] == '"***"'
    assert "peers.CLOUD.url" in page
    assert "server.port" not in page
    for secret in (HASH, "very-secret-token"):
        assert secret not in page + str(found)

    file.write_text(FILE.replace('"MAIN"', '"OTHER"') + "[query]\nmax_results = 5\n")
    renewed = renew(settings, read())
    assert renewed.settings.origins[("query", "max_results")] == str(file)
    assert renewed.settings.origins[("server", "ae_title")] == str(file)
    assert renewed.settings.server.ae_title == "MAIN", "it needs a restart"


def test_settings_of_routes_are_shown_and_those_of_plug_ins_hidden(tmp_path: Path) -> None:
    given = {
        "data_dir": tmp_path,
        "peers": {"CLOUD": {"host": "h", "port": 104}},
        "route": [{"name": "on", "when": {"StudyDescription": "<b>on"}, "send_to": ["CLOUD"]}],
        "coercion": [{"name": "set", "set": {"PatientID": "X"}}],
        "plugins": {"settings": {"hook": {"api_key": "sesame", "at": {"url": "http://sesame"}}}},
    }
    settings = Settings.model_validate(given)
    with (
        Archive.open(tmp_path, durability="os") as archive,
        serving_archive(archive, settings) as client,
    ):
        found = {each["name"]: each["value"] for each in client.get("/api/settings").json()}
        page = client.get("/node/settings").text
    assert found["route.0.send_to"] == '["CLOUD"]'
    assert found["coercion.0.set"] == '{ PatientID = "X" }'
    assert found["plugins.settings"] == '{ hook = { api_key = "***", at = { url = "***" } } }'
    assert "sesame" not in page
    assert "&lt;b&gt;on" in page


@pytest.mark.parametrize("path", ["/", "/node"])
def test_a_page_does_not_wait_for_counts_and_says_when_they_are_old(
    filled: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    counts = filled.app.state.web.counts  # type: ignore[attr-defined]
    monkeypatch.setattr(counts, "lately", lambda: None)
    missing = plain(filled.get(path).text)
    fresh = Lately(Statistics(1, 2, 3, 45_678, 9), 1_700_000_000_000, is_old=False)
    monkeypatch.setattr(counts, "lately", lambda: fresh)
    counted = plain(filled.get(path).text)
    monkeypatch.setattr(counts, "lately", lambda: fresh._replace(is_old=True))
    old = plain(filled.get(path).text)

    assert "45,678" not in missing
    assert "45,678" in counted
    assert "45,678" in old
    assert not re.search(r"[Cc]ounted 2023-11-14", counted)
    assert re.search(r"[Cc]ounted 2023-11-14", old)
