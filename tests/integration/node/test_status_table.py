"""What workers write into the memory that they share, and what others read there."""

import os
import time

import pytest

from lfscp.node import status_table
from lfscp.node.status_table import StatusTable
from lfscp.web.status.state import AssociationState, ProcessState

ASSOCIATION = AssociationState(7, "CT1", "LFSCP", "10.0.0.1:4711", "storage", "LF-1", 1.5)
STATE = ProcessState(1234, "LF-2", 3, 4, 5, 6, text="pool", associations=(ASSOCIATION,), queued=8)


def test_what_a_worker_writes_others_read():
    table = StatusTable(2)
    pid = os.fork()
    if pid == 0:
        table.write(1, STATE)
        os._exit(0)
    os.waitpid(pid, 0)
    assert table.read() == (ProcessState(), STATE)


def test_a_slot_that_is_being_written_leaves_what_was_read_before():
    table = StatusTable(1)
    table.write(0, STATE)
    assert table.read() == (STATE,)
    table._memory[20] ^= 0xFF
    assert table.read() == (STATE,)


def test_of_too_many_associations_some_are_left_out():
    table = StatusTable(1)
    table.write(0, ProcessState(running=9, associations=(ASSOCIATION,) * 5000))
    (state,) = table.read()
    assert state.running == 9
    assert 1000 < len(state.associations) < 5000
    assert set(state.associations) == {ASSOCIATION}


@pytest.mark.parametrize("has_written", [False, True])
def test_a_worker_that_writes_no_more_is_silent(monkeypatch, has_written):
    table = StatusTable(1)
    if has_written:
        table.write(0, STATE)
    assert not table.read()[0].is_silent
    later = time.monotonic() + status_table._SILENT_AFTER_S + 1
    monkeypatch.setattr(status_table.time, "monotonic", lambda: later)
    assert table.read()[0].is_silent
    table.write(0, STATE)
    assert not table.read()[0].is_silent
