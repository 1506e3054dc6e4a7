"""The page of the node says what each plug-in has done."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive
from lfscp.jobs.service import JobService
from lfscp.web.app import create_app
from tests.support.plugin_files import opened, plugin, settings_of
from tests.support.sample_objects import made
from tests.support.web_app import HOME, state

TEXT = """
@hook
def may_store(arrival):
    if arrival.calling_ae_title == "NOBODY": return Refusal("no")
    if GONE: raise ValueError("broken")

@hook
def stored(stored):
    time.sleep(SLEEP)
"""


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_page_names_plug_ins_with_their_calls_failures_and_events(tmp_path: Path) -> None:
    good = plugin(tmp_path, "page_good", TEXT.replace("GONE", "False").replace("SLEEP", "0"))
    bad = plugin(tmp_path, "page_bad", TEXT.replace("GONE", "True").replace("SLEEP", "60"))
    settings = settings_of(tmp_path, good, bad, queue_size=1, stop_timeout_s=0.1)
    with Archive.open(tmp_path / "data", durability="os") as archive:
        plugins = opened(archive, tmp_path, good, bad, queue_size=1, stop_timeout_s=0.1)
        jobs = JobService(archive, settings)
        jobs.start()
        app = create_app(settings, archive, jobs, state, plugins=plugins)
        try:
            with TestClient(app, base_url=HOME) as client:

                def found() -> dict[str, dict[str, Any]]:
                    return {each["name"]: each for each in client.get("/api/plugins").json()}

                def has_calls(number: int) -> bool:
                    return bool(found()["page_good"]["calls"] == number)

                def upload() -> None:
                    content = made(tmp_path).read_bytes()
                    assert client.post("/api/instances", content=content).status_code == 201

                for calls in (2, 4, 6):
                    upload()
                    wait_until(partial(has_calls, calls))
                    if calls == 2:  # the slow one has begun with its first event
                        wait_until(lambda: not any(len(each.queue) for each in plugins._in_use))
                wait_until(lambda: found()["page_bad"]["waiting"] == 1)  # counted once a second
                text = client.get("/node").text
                states = found()
        finally:
            jobs.terminate(5)
            plugins.stop()
    assert states["page_good"]["source"] == str(good)
    assert states["page_good"]["hooks"] == ["may_store", "stored"]
    counted = ("calls", "refused", "failed", "overdue", "waiting", "lost")
    assert [states["page_good"][each] for each in counted] == [6, 0, 0, 0, 0, 0]
    assert [states["page_bad"][each] for each in counted] == [0, 0, 3, 0, 1, 1]
    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))
    assert f"page_bad {bad} may_store, stored 0 3 1 1" in words
