"""Processes that are forked for some work: begun when needed, limited, ended with their first."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.processes.forking_server import Child, ForkingServer, IdleChildren

WORK = """
import os, time
IDLE_S = {idle_s}

def prepare():
    pass

def serve(connection, own_bytes):
    from lfscp.processes.memory import limit_data
    while True:
        message = connection.receive()
        body = connection.read(message.length)
        asked = message.fields
        try:
            if "take" in asked:
                limit_data(own_bytes + asked["limit"])
                bytearray(asked["take"])
            time.sleep(asked.get("sleep", 0))
            connection.send({{"said": asked, "pid": os.getpid()}}, body)
        except MemoryError:
            connection.send({{"refused": True}})
"""


class CalledOffError(Exception):
    """Raised by whoever waits no longer."""


class Served(ForkingServer):
    """One whose processes the fixture ends."""

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.children: list[Child] = []

    def child(self, look: Callable[[], None] = lambda: None) -> Child:
        self.children.append(super().child(look))
        return self.children[-1]


Make = Callable[..., Served]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    made: list[Served] = []

    def make(idle_s: float | None = None) -> Served:
        (tmp_path / "some_work.py").write_text(WORK.format(idle_s=idle_s))
        made.append(Served("some_work"))
        return made[-1]

    yield make
    for each in made:
        for child in each.children:
            child.end()
        each.close()


def asked(child: Child, seconds: float = 30.0, **fields: object) -> dict[str, object]:
    child.send(fields)
    return child.receive(seconds).fields


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: object) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_body_comes_back_as_it_went(server: Make) -> None:
    child = server().child()
    body = os.urandom(3_000_000)
    child.send({"name": "x"}, memoryview(body[:1_000_000]), body[1_000_000:])
    answer = child.receive(30)
    assert answer.fields["said"] == {"name": "x"}
    assert b"".join(bytes(each) for each in child.pieces(answer.length, 30)) == body


def test_memory_beyond_the_limit_is_refused_and_the_next_is_given(
    server: Make,
) -> None:
    child = server().child()
    assert not child.unlimited
    assert asked(child, take=64 << 20, limit=16 << 20) == {"refused": True}
    assert "said" in asked(child, take=64 << 20, limit=96 << 20)


def test_who_gives_up_ends_the_process_though_it_works(
    server: Make,
) -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise CalledOffError

    child = server().child()
    pid = asked(child)["pid"]
    child.look = look
    with pytest.raises(CalledOffError):
        asked(child, sleep=600)
    child.end()
    wait_until(lambda: is_gone(pid))


def test_an_answer_that_takes_too_long_is_an_error(server: Make) -> None:
    child = server().child()
    with pytest.raises(TimeoutError):
        asked(child, 0.01, sleep=600)
    child.end()


def test_the_first_stays_as_long_as_one_works_and_is_begun_anew(
    server: Make,
) -> None:
    served = server(idle_s=0.05)
    child = served.child()
    first = served.pid
    assert "said" in asked(child, sleep=0.5)  # long after the first has been asked last
    child.end()
    wait_until(lambda: Path(f"/proc/{first}/stat").read_text().split(")")[1].split()[0] == "Z")
    assert "said" in asked(served.child())
    assert served.pid != first


def test_all_of_them_end_with_the_first(server: Make) -> None:
    served = server()
    pids = [asked(each)["pid"] for each in (served.child(), served.child())]
    os.kill(served.pid, signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, pids)))
    assert "said" in asked(served.child())


def test_there_are_none_once_it_is_closed(server: Make) -> None:
    served = server()
    pid = asked(served.child())["pid"]
    served.close()
    wait_until(lambda: is_gone(pid))
    with pytest.raises(OSError, match="no more processes"):
        served.child()


def test_idle_ones_go_to_their_owner_unless_another_will_do(
    server: Make,
) -> None:
    served, idle = server(), IdleChildren(2)
    one, other, third = (served.child() for _ in range(3))
    for child, owner in ((one, "one"), (other, "other"), (third, "third")):
        idle.keep(child, owner)
    assert idle.take("one") is None  # ended, since it was idle longest
    assert idle.take("unknown") is None
    assert idle.take("unknown", of_others=True) is third
    assert idle.take("other") is other
