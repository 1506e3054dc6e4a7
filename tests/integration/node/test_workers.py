"""Worker processes are kept alive, end together, and are killed when they will not end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lfscp.node.workers import Workers

PATIENCE_S = 20.0


PARENT = """
import os, signal, sys, time
from pathlib import Path
from lfscp.node.workers import Workers

folder = Path(sys.argv[1])

def told_to_end():
    signal.sigwait([signal.SIGTERM])

def work(number):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    name = folder / f"{number}-{os.getpid()}"
    name.with_suffix(".new").touch()
    name.with_suffix(".new").rename(name)
    WORK

sys.exit(Workers(int(sys.argv[2]), work, kill_after_s=float(sys.argv[3])).run())
"""


def run_parent(folder: Path, work: str, *, count: int = 2, kill_after_s: float = 10.0):
    """A process whose workers do `work`; each leaves a file named by its number and pid first."""
    program = PARENT.replace("WORK", work)
    arguments = [str(folder), str(count), str(kill_after_s)]
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE)


def started(folder: Path) -> dict[int, list[int]]:
    """The pids of the workers that have begun, by number, in no order."""
    found: dict[int, list[int]] = {}
    for path in folder.iterdir():
        if not path.suffix:
            number, pid = path.name.split("-")
            found.setdefault(int(number), []).append(int(pid))
    return found


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):  # it may end between the two
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def parent_of(tmp_path):
    parents = []

    def start(work, **options):
        parents.append(run_parent(tmp_path, work, **options))
        return parents[-1]

    yield start
    for parent in parents:
        if parent.poll() is None:
            parent.kill()
        parent.wait()
        parent.stderr.close()
        for pids in started(tmp_path).values():
            for pid in pids:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)


def test_every_worker_runs_and_ends_when_told(parent_of, tmp_path):
    parent = parent_of("told_to_end(); return 0", count=3)
    wait_for(lambda: len(started(tmp_path)) == 3)
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 0


def test_a_worker_that_dies_is_replaced_and_the_others_stay(parent_of, tmp_path):
    parent = parent_of("told_to_end(); return 0")
    wait_for(lambda: len(started(tmp_path)) == 2)
    before = started(tmp_path)
    os.kill(before[0][0], signal.SIGKILL)
    wait_for(lambda: len(started(tmp_path)[0]) == 2)
    assert started(tmp_path)[1] == before[1]
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 0
    assert b"Worker 0 ended with signal 9" in parent.stderr.read()


def test_a_worker_that_will_not_end_is_killed(parent_of, tmp_path):
    parent = parent_of("time.sleep(1000)", count=1, kill_after_s=0.2)
    wait_for(lambda: started(tmp_path))
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 1
    ((pid,),) = started(tmp_path).values()
    assert not is_alive(pid)


def test_an_exit_code_of_a_worker_is_the_parents(parent_of, tmp_path):
    parent = parent_of("told_to_end(); return number")
    wait_for(lambda: len(started(tmp_path)) == 2)
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 1


def test_workers_end_when_their_parent_is_killed(parent_of, tmp_path):
    parent = parent_of("told_to_end(); return 0")
    wait_for(lambda: len(started(tmp_path)) == 2)
    pids = [pid for pids in started(tmp_path).values() for pid in pids]
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_at_least_one_worker():
    with pytest.raises(ValueError, match="at least 1"):
        Workers(0, lambda number: number, kill_after_s=1)
