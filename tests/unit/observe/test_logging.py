"""The ordinary log: whole lines, escaped values, no patient, a level that can change."""

import json
import logging
import os
import threading
import warnings

import pytest

from lfscp.observe import logging as log_module
from lfscp.observe.logging import configure, get_logger, set_level


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Configure the log to a file; returns (configure, lines). Global state is put back."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    root = logging.getLogger()
    names = ("pynetdicom", "pydicom", "alembic", "sqlalchemy")
    levels = {name: logging.getLogger(name).level for name in names}
    before = (root.level, list(root.handlers))

    def start(level="info", style="json"):
        configure(level, style, descriptor=descriptor)

    with warnings.catch_warnings():
        yield start, lambda: path.read_text(encoding="utf-8").splitlines()
        configure("info")  # or the next lines go where this descriptor's number is used again
    os.close(descriptor)
    set_level("info")
    root.handlers[:] = before[1]
    root.setLevel(before[0])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_json_line_has_bound_and_own_fields(log):
    start, lines = log
    start()

    get_logger("lfscp.storage").bind(association=7).info("stored", bytes=5, duration_ms=1.5, x=None)

    (line,) = map(json.loads, lines())
    assert line.pop("time").endswith("Z")
    expected = {"level": "info", "logger": "lfscp.storage", "event": "stored", "association": 7}
    assert {**expected, "bytes": 5, "duration_ms": 1.5, "x": None} == line


def test_a_console_line_quotes_what_needs_quotes(log):
    start, lines = log
    start("info", "console")

    get_logger("lfscp.storage").warning("not stored", status="0xA700", reason="disk full", empty="")

    (line,) = lines()
    expected = 'lfscp.storage: not stored status=0xA700 reason="disk full" empty=""'
    assert line.endswith(expected)
    assert " warning " in line


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_value_breaks_its_line_or_the_terminal(log, style):
    start, lines = log
    start("info", style)
    evil = "a\nb\r\x1b[31m\x7f\x9b\u202e\u2028\ud800"

    get_logger("a").info(evil, calling_ae_title=evil, number=float("nan"))

    (line,) = lines()
    assert line.isprintable()
    assert style == "console" or json.loads(line)["calling_ae_title"] == evil


def test_a_very_long_value_is_cut(log):
    start, lines = log
    start()

    get_logger("a").info("b", reason="x" * 100_000)

    assert len(lines()[0]) < 2 * log_module.MAX_VALUE_LENGTH


def test_a_library_s_very_long_message_is_cut(log):
    start, lines = log
    start()

    logging.getLogger("uvicorn.error").error("GET /%s", "x\x1b" * 100_000)

    (line,) = lines()
    assert len(line) < 7 * log_module.MAX_VALUE_LENGTH
    assert "\x1b" not in line


def test_an_early_logger_follows_configuration_and_level(log):
    start, lines = log
    early = get_logger("early")
    start("warning")

    early.info("one")
    early.warning("two")
    set_level("debug")
    early.debug("three")
    logging.getLogger("lfscp.pool").debug("four")

    assert [json.loads(line)["event"] for line in lines()] == ["two", "three", "four"]


def test_pynetdicom_talks_at_debug_and_its_dumps_stay_out(log):
    start, lines = log
    start("debug")

    logging.getLogger("pynetdicom.acse").info("Accepting Association")
    logging.getLogger("pynetdicom.dimse").debug("(0010,0010) PN [Doe^Jane]")
    logging.getLogger("pynetdicom.dsutils").error("Invalid value 'Doe^Jane'")
    set_level("info")
    logging.getLogger("pynetdicom.acse").info("Accepting Association")

    found = [(each["level"], each["event"]) for each in map(json.loads, lines())]
    expected = [("debug", "Accepting Association"), ("error", "Invalid value '...'")]
    assert expected == found


def test_each_decoder_that_fails_is_no_line_beside_our_own(log):
    start, lines = log
    start()
    logging.getLogger("pydicom.pixels.decoders.base").error(ValueError("broken pixels"))
    logging.getLogger("pydicom.pixels.utils").error("another matter")
    assert [json.loads(line)["event"] for line in lines()] == ["another matter"]


def test_a_library_s_traceback_becomes_one_line_without_the_value(log):
    start, lines = log
    start()

    try:
        raise ValueError("cannot decode 'Doe^Jane'")
    except ValueError:
        logging.getLogger("pynetdicom.dsutils").exception("Failed to decode the dataset")

    (line,) = map(json.loads, lines())
    assert line["reason"] == "ValueError: cannot decode '...'"
    assert "traceback" not in line


def test_an_own_exception_says_where_and_its_traceback_only_at_debug(log):
    start, lines = log
    start()
    for level in ("info", "debug"):
        set_level(level)
        try:
            raise RuntimeError("broken")
        except RuntimeError as error:
            get_logger("lfscp.pool").error("failed", exc_info=error)

    short, long = map(json.loads, lines())
    assert short["reason"] == "RuntimeError: broken"
    assert short["where"].startswith("test_logging.py:")
    assert "traceback" not in short
    assert "RuntimeError: broken" in long["traceback"]


def test_warnings_become_events(log):
    start, lines = log
    start()
    warnings.simplefilter("always")

    warnings.warn("old name 'x'", DeprecationWarning, stacklevel=1)

    (line,) = map(json.loads, lines())
    assert (
        line["logger"],
        line["level"],
        line["reason"],
    ) == ("python", "warning", "old name '...'")


def test_lines_of_many_threads_stay_whole(log):
    start, lines = log
    start()
    logger = get_logger("a")

    def write():
        for number in range(200):
            logger.info("event", number=number, text="x" * 300)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [json.loads(line)["text"] for line in lines()] == ["x" * 300] * 1600


def test_a_closed_log_does_not_stop_the_node(log):
    _, _ = log  # puts the configuration back
    reader, writer = os.pipe()
    os.close(reader)
    configure("info", "json", descriptor=writer)

    get_logger("a").info("nobody reads this")

    configure("info")
    os.close(writer)
