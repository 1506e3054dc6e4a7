"""Plug-ins that decide: their refusals count, their failures are named and stop nothing."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from pydicom import Dataset

from lfscp.archive.archive import Archive, StoredInstance
from lfscp.archive.errors import StoreRefusedError
from lfscp.archive.interceptor import AskedQuery
from lfscp.config import ConfigError
from lfscp.dicom.values.attributes import Level
from lfscp.plugins.deciding import TimedCalls
from lfscp.plugins.errors import DecisionOverdueError, PluginError, PluginRefusalError
from lfscp.services import status
from lfscp.services.storage.c_store import refusal
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received
from tests.unit.plugins.conftest import Begin

RAISES = "@hook\ndef may_store(arrival): raise ValueError('Doe^Jane')"
HANGS = "@hook\ndef may_store(arrival): time.sleep(3)"


def count(archive: Archive) -> int:
    return archive.statistics().instances


def test_an_object_that_is_refused_is_not_stored(archive: Archive, begin: Begin) -> None:
    begin(
        """
        @hook
        def may_store(arrival):
            data = arrival.dataset
            assert "PixelData" not in data
            assert arrival.calling_ae_title == "SENDER"
            if data.PatientID == "P2":
                return Refusal("no P2 here")
            if data.InstanceNumber == 7:
                return Refusal("later", is_temporary=True)
        """
    )
    archive.store(received(1))
    with pytest.raises(StoreRefusedError, match="no P2 here") as raised:
        archive.store(received(2, PatientID="P2"))
    assert refusal(raised.value).Status == status.NOT_AUTHORISED
    with pytest.raises(StoreRefusedError) as raised:
        archive.store(received(7))
    answer = refusal(raised.value)
    assert (answer.Status, answer.ErrorComment) == (status.OUT_OF_RESOURCES, "later")
    assert count(archive) == 1


def test_a_spooled_object_can_be_read_too(archive: Archive, begin: Begin, tmp_path: Path) -> None:
    from lfscp.archive.archive import Received
    from lfscp.dicom.part10.file_meta import part10_header

    begin("@hook\ndef may_store(arrival):\n    return Refusal(str(arrival.dataset.PatientID))")
    head = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT, "SENDER")
    file = archive.incoming_dir / "x.part"
    file.write_bytes(head + encoded(1))
    spooled = Received(
        *(CT_IMAGE, "1.2.3.1.1", EXPLICIT, "SENDER"), spooled_path=file, dataset_offset=len(head)
    )
    with pytest.raises(StoreRefusedError, match="P1"):
        archive.store(spooled)


@pytest.mark.parametrize("on_failure", ["allow", "refuse"])
@pytest.mark.parametrize(
    ("text", "said"),
    [(RAISES, "plug-in failed"), (HANGS, "plug-in did not answer in time")],
)
def test_one_that_raises_or_hangs_is_named_and_the_setting_decides(
    archive: Archive,
    begin: Begin,
    capfd: pytest.CaptureFixture[str],
    on_failure: str,
    text: str,
    said: str,
) -> None:
    begin(text, on_failure=on_failure, decision_timeout_s=0.2)
    for number in (1, 2):
        if on_failure == "refuse":
            with pytest.raises(StoreRefusedError) as raised:
                archive.store(received(number))
            assert raised.value.is_temporary
        else:
            archive.store(received(number))
    assert count(archive) == (2 if on_failure == "allow" else 0)
    lines = [line for line in capfd.readouterr().err.splitlines() if said in line]
    assert len(lines) == 1, lines  # a flood of them is one line
    assert "one" in lines[0]
    assert "may_store" in lines[0]
    assert "Doe" not in lines[0]


def test_an_answer_that_is_none_counts_as_a_failure(archive: Archive, begin: Begin) -> None:
    begin("@hook\ndef may_store(arrival): return False", on_failure="refuse")
    with pytest.raises(StoreRefusedError, match="plug-in one failed"):
        archive.store(received(1))


def test_a_call_that_is_overdue_cannot_read_the_object_any_more(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    begin(
        f"""
        from pathlib import Path
        @hook
        def may_store(arrival):
            time.sleep(0.5)
            try:
                arrival.dataset
            except RuntimeError as error:
                Path({str(tmp_path / "said")!r}).write_text(str(error))
        """,
        decision_timeout_s=0.1,
    )
    archive.store(received(1))
    deadline = time.monotonic() + 10
    while not (tmp_path / "said").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "is over" in (tmp_path / "said").read_text()


def test_the_first_refusal_counts_in_the_order_of_the_plug_ins(
    archive: Archive, begin: Begin
) -> None:
    text = "@hook{}\ndef may_store(arrival): return Refusal({!r})"
    plugins = begin(text.format("", "first"), text.format("", "second"))
    with pytest.raises(StoreRefusedError, match="first"):
        archive.store(received(1))
    plugins.stop()
    begin(text.format("", "first"), text.format("(tryfirst=True)", "second"))
    with pytest.raises(StoreRefusedError, match="second"):
        archive.store(received(1))


def test_a_send_and_a_query_are_decided_too(archive: Archive, begin: Begin) -> None:
    plugins = begin(
        """
        @hook
        def before_send(sending):
            return Refusal("not to X") if sending.destination == "X" else None
        @hook
        def may_find(query, node):
            return None if "PatientID" in query.keys else Refusal("ask for a patient")
        """
    )
    archive.store(received(1))
    (instance,) = archive.select(Level.IMAGE, {Level.IMAGE: ["1.2.3.1.1"]})
    assert isinstance(instance, StoredInstance)
    assert plugins.before_send(instance, "X") == ("not to X", False)
    assert plugins.before_send(instance, "Y") is None
    asked = AskedQuery("A", "10.0.0.1", "1.2", b"\x10\x00\x20\x00LO\x02\x00P1", EXPLICIT)
    assert plugins.before_query(asked) == ""
    assert plugins.before_query(asked._replace(identifier=b"")) == "ask for a patient"


def test_a_route_action_changes_a_dataset_or_fails_in_plain_words(begin: Begin) -> None:
    plugins = begin(
        "@hook\ndef route_action(dataset):\n    dataset.PatientID = 'X'\n    return dataset",
        "@hook\ndef route_action(dataset, node): raise ValueError",
        "@hook\ndef route_action(dataset): return Refusal('not this', is_temporary=True)",
    )
    dataset = Dataset()
    assert plugins.apply_action("one", dataset).PatientID == "X"
    with pytest.raises(PluginError, match="plug-in two failed, see the log"):
        plugins.apply_action("two", dataset)
    with pytest.raises(PluginRefusalError, match="not this") as refused:
        plugins.apply_action("three", dataset)
    assert refused.value.is_temporary
    with pytest.raises(PluginError, match="no plug-in four"):
        plugins.apply_action("four", dataset)


def test_calls_that_all_hang_cost_no_more_time_and_threads() -> None:
    goes_on = threading.Event()
    calls = TimedCalls("x", most=2)
    for _ in range(2):
        with pytest.raises(DecisionOverdueError):
            calls.call(goes_on.wait, 0.05)
    before = threading.active_count()
    for _ in range(100):
        with pytest.raises(DecisionOverdueError):
            calls.call(goes_on.wait, 1000.0)  # it is not waited for
    assert threading.active_count() == before
    goes_on.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert calls.call(lambda: 7, 5.0) == 7
            break
        except DecisionOverdueError:
            time.sleep(0.01)
    else:
        pytest.fail("the threads that came back are not used again")


def test_many_threads_share_the_threads_of_one_plug_in() -> None:
    calls = TimedCalls("x", most=3)
    found: list[int] = []

    def ask(number: int) -> None:
        found.append(calls.call(lambda: (time.sleep(0.01), number)[1], 30.0))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == list(range(30))


def test_one_that_changes_what_it_is_given_changes_it_for_itself_only(
    archive: Archive, begin: Begin
) -> None:
    begin(
        """
        @hook
        def may_store(arrival):
            arrival.dataset.PatientID = "CHANGED"
            arrival.study_uid = "9"
        """,
        """
        @hook
        def may_store(arrival):
            return Refusal(f"{arrival.dataset.PatientID} {arrival.study_uid}")
        """,
    )
    with pytest.raises(StoreRefusedError) as raised:
        archive.store(received(1, PatientID="P1"))
    assert raised.value.reason.startswith("P1 ")
    assert not raised.value.reason.endswith(" 9")


@pytest.mark.parametrize(("reason", "said"), [("None", "refused by a plug-in"), ("3", "3")])
def test_a_refusal_without_a_text_refuses_all_the_same(
    archive: Archive, begin: Begin, reason: str, said: str
) -> None:
    begin(f"@hook\ndef may_store(arrival): return Refusal({reason})")
    with pytest.raises(StoreRefusedError) as raised:
        archive.store(received(1))
    answer = refusal(raised.value)
    assert (answer.Status, answer.ErrorComment) == (status.NOT_AUTHORISED, said)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(3)"])
def test_one_that_would_end_the_process_fails_like_any_other(
    archive: Archive, begin: Begin, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A node has a handler of its own for SIGINT, so that none is the user's.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    plugins = begin(
        f"""
        @hook
        def may_store(arrival): raise {error}
        @hook
        def route_action(dataset): raise {error}
        @hook
        def handlers(): raise {error}
        @hook
        def routes(): raise {error}
        """
    )
    archive.store(received(1))
    assert count(archive) == 1
    with pytest.raises(PluginError, match="failed"):
        plugins.apply_action("one", Dataset())
    with pytest.raises(PluginError, match="failed in handlers"):
        list(plugins.services())
    assert list(plugins.routers()) == []
    with pytest.raises(ConfigError, match="it ends the process when it is loaded"):
        begin(f"raise {error}")
