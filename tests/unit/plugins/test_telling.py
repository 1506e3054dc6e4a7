"""Plug-ins that are told: in order, without anybody waiting, and what is lost is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.observe import metrics
from lfscp.plugins.events import EndedJob
from lfscp.plugins.telling import Queue
from tests.support.archive_datasets import received
from tests.support.dicom_peer import until
from tests.support.plugin_files import plugin, settings_of
from tests.unit.plugins.conftest import Begin

WRITES = """
from pathlib import Path
FILE = Path({file!r})
def write(*words):
    with FILE.open("a") as file:
        print(*words, file=file)
@hook
def startup(node): write("startup", node.ae_title)
@hook
def stored(stored, node): write("stored", stored.sop_instance_uid, stored.is_new)
@hook
def study_complete(study, node): write("complete", len(list(node.instances(study.study_uid))))
@hook
def job_ended(job): write("job", job.kind, job.state)
@hook
def shutdown(): write("shutdown")
"""


def lost(hook: str = "stored") -> float:
    values = dict(metrics.PLUGIN_CALLS.samples(metrics.BOARD.sums()))
    return values[hook, "lost"]


def test_a_plug_in_hears_everything_in_order(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    plugins = begin(WRITES.format(file=str(heard)))
    for number in range(1, 4):
        archive.store(received(number))
    archive.store(received(3))  # again, and the same
    plugins.notify_study_complete("1.2.3")
    plugins.job_ended(EndedJob("1", "send", "done", ("X",), 1, 0, ""))
    plugins.stop()
    assert heard.read_text().splitlines() == [
        "startup LFSCP",
        *(f"stored 1.2.3.1.{number} True" for number in range(1, 4)),
        "complete 3",
        "job send done",
        "shutdown",
    ]


def test_one_that_raises_is_named_once_and_hears_the_next_event(
    archive: Archive, begin: Begin, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = tmp_path / "heard"
    text = f"""
    from pathlib import Path
    @hook
    def stored(stored):
        if not stored.sop_instance_uid.endswith("3"):
            raise SystemExit("Doe^Jane")
        Path({str(heard)!r}).write_text("three")
    """
    plugins = begin(text)
    for number in range(1, 4):
        archive.store(received(number))
    plugins.stop()
    assert heard.read_text() == "three"
    lines = [each for each in capfd.readouterr().err.splitlines() if "plug-in failed" in each]
    assert len(lines) == 1
    assert "reason=SystemExit where=one.py:8" in lines[0]
    assert "Doe" not in lines[0]


def test_one_that_hangs_holds_up_neither_stores_nor_others_nor_the_end(
    archive: Archive, begin: Begin, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = tmp_path / "heard"
    hangs = "import threading\n@hook\ndef stored(stored): threading.Event().wait()"
    plugins = begin(hangs, WRITES.format(file=str(heard)), hang_s=0.2, stop_timeout_s=0.5)
    before = lost()
    for number in range(1, 4):
        archive.store(received(number))
    assert until(lambda: heard.read_text().count("stored") == 3)
    said = ""

    def is_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "plug-in hangs" in said

    assert until(is_said)
    plugins.stop()
    assert heard.read_text().splitlines()[-1] == "shutdown"
    said += capfd.readouterr().err
    assert "plug-in left behind at the end" in said
    assert lost() == before + 2


def test_what_a_full_queue_does_not_take_is_counted_and_said() -> None:
    said: list[tuple[object, ...]] = []
    goes_on, begun = threading.Event(), threading.Event()
    told: list[int] = []

    def teller(number: int) -> Callable[[], None]:
        def tell() -> None:
            begun.set()
            goes_on.wait(30)
            told.append(number)

        return tell

    queue = Queue("x", 3, lambda *words, **fields: said.append((*words, fields)))
    before = lost()
    queue.put("stored", teller(0))
    assert begun.wait(10)
    for number in range(1, 9):
        queue.put("stored", teller(number))
    assert lost() == before + 5
    assert said[0] == ("plug-in is too slow, events are lost", "stored", {"lost": 1, "queued": 3})
    goes_on.set()
    queue.end(None, 10.0)
    assert told == [0, 1, 2, 3]
    assert said[-1] == ("plug-in left behind at the end", "stored", {"lost": 4})
    queue.put("stored", teller(9))
    assert told == [0, 1, 2, 3]


def test_a_reload_changes_plug_ins_and_a_wrong_one_changes_nothing(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    plugins = begin(WRITES.format(file=str(heard)))
    file = tmp_path / "one.py"
    settings = settings_of(tmp_path, file)
    archive.store(received(1))
    file.write_text("def (")
    with pytest.raises(Exception, match="line 1"):
        plugins.prepare(settings)
    archive.store(received(2))
    plugin(tmp_path, "one", WRITES.format(file=str(heard)).replace('"stored"', '"again"'))
    plugins.renew(settings, plugins.prepare(settings))
    archive.store(received(3))
    plugins.renew(settings_of(tmp_path), ())
    assert archive.interceptor is None
    assert until(lambda: heard.read_text().count("shutdown") == 2)
    lines = heard.read_text().splitlines()
    # Each hears in a thread of its own: the new one may be first.
    assert [line for line in lines if line.startswith("stored")] == [
        "stored 1.2.3.1.1 True",
        "stored 1.2.3.1.2 True",
    ]
    assert [line for line in lines if line.startswith("again")] == ["again 1.2.3.1.3 True"]
    assert lines.count("startup LFSCP") == 2
