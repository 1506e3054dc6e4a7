"""Who comes to the server during a soak: modalities, those who ask, and those who break off.

Each is a thread that goes on until the soak says stop. A server that is being killed loses its
connections: that is no failure, and what was not acknowledged is sent again. A failure is an answer
that is wrong: an acknowledged object that is not found, not sent, or not the same.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import wire
from wire import Client, Instance, Lost, peer

GONE = (OSError, Lost, AssertionError, struct.error, TypeError)  # the server was killed in mid-word
SMALL, LARGE = (2_000, 60_000), (500_000, 6_000_000)  # bytes of pixels
STUDY_SIZE = 40
RETRY_S = 0.1


@dataclass
class Soak:
    """What the clients share.

    Args:
        port: of the server.
        title: its AE title.
        journal: a file with a line for each acknowledged object.
        exact: whole datasets must come back byte for byte; else their pixels.
    """

    port: int
    title: str
    journal: Path
    exact: bool = True
    large_share: float = 0.02
    pause_s: float = 0.15
    stop: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    acknowledged: dict[str, Instance] = field(default_factory=dict)
    by_study: dict[str, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._lines = self.journal.open("a", buffering=1)

    def count(self, what: str, number: int = 1) -> None:
        """One more of something."""
        with self.lock:
            self.counts[what] += number

    def fail(self, reason: str) -> None:
        """Something that must not be."""
        with self.lock:
            self.failures.append(reason)

    def acknowledge(self, instance: Instance) -> None:
        """The server has answered success."""
        with self.lock:
            self.acknowledged[instance.uid] = instance
            self.by_study[instance.study_uid].append(instance)
            self.counts["stored"] += 1
            self.counts["bytes"] += instance.size
            self._lines.write(f"{instance.uid} {instance.size}\n")

    def any_study(self) -> tuple[str, list[Instance]] | None:
        """A study of which something was acknowledged, and what so far."""
        with self.lock:
            if not self.by_study:
                return None
            uid = random.choice(list(self.by_study))
            return uid, list(self.by_study[uid])

    def open(self, timeout: float = 60.0) -> Client:
        """A new association."""
        client = Client(self.port, self.title, timeout)
        try:
            client.open()
        except BaseException:
            client.sock.close()
            raise
        return client

    def matches(self, instance: Instance, dataset: bytes) -> bool:
        """Whether an object came back as it was sent."""
        return instance.is_in(dataset) if self.exact else instance.ends(dataset)


def modality(soak: Soak, number: int) -> None:
    """Store objects, study after study; what was not acknowledged is sent again."""
    chance = random.Random(number)
    study = count = 0
    waiting: Instance | None = None
    tried = False
    while not (soak.stop.is_set() and not waiting):
        soak.go.wait()
        try:
            with soak.open() as client:
                for _ in range(chance.randint(1, 30)):
                    if waiting is None:
                        if soak.stop.is_set():
                            break
                        sizes = LARGE if chance.random() < soak.large_share else SMALL
                        waiting = Instance(number, study, count, chance.randrange(*sizes, 2))
                        count += 1
                        if count == STUDY_SIZE:
                            study, count = study + 1, 0
                        tried = False
                    if tried:
                        soak.count("sent again")
                    tried = True
                    status = client.store(waiting)
                    if status != wire.SUCCESS:
                        soak.count(f"refused 0x{status:04X}")
                        break
                    soak.acknowledge(waiting)
                    waiting = None
                    soak.stop.wait(chance.random() * 2 * soak.pause_s)
                client.close()
        except GONE:
            soak.count("stores cut off")
            time.sleep(RETRY_S)


def repeatedly(soak: Soak, turn: Callable[[Soak], None], pause_s: float) -> None:
    """Do something again and again, whatever happens to the server meanwhile."""
    while not soak.stop.wait(pause_s):
        soak.go.wait()
        try:
            turn(soak)
        except GONE:
            soak.count("requests cut off")
            soak.stop.wait(RETRY_S)


def find(soak: Soak) -> None:
    """Query a study's objects: what was acknowledged before is found."""
    study = soak.any_study()
    if study is None:
        return
    uid, instances = study
    with soak.open() as client:
        if not client.find("STUDY", study=uid):
            soak.fail(f"C-FIND: study {uid} has acknowledged objects and is not found")
        matches = client.find("IMAGE", study=uid, series=f"{uid}.1", instance="")
        told = b"".join(matches)
        for instance in instances:
            if instance.uid.encode() not in told:
                soak.fail(f"C-FIND: {instance.uid} was acknowledged and is not found")
        client.close()
    soak.count("C-FIND", 2)


def get(soak: Soak) -> None:
    """Retrieve a study: what was acknowledged before comes, as it was sent."""
    study = soak.any_study()
    if study is None:
        return
    uid, instances = study
    with soak.open() as client:
        got = dict(client.get(uid))
        client.close()
    compare(soak, "C-GET", instances, got)


def compare(soak: Soak, how: str, instances: list[Instance], got: dict[str, bytes]) -> None:
    """Hold what came against what was acknowledged."""
    for instance in instances:
        dataset = got.get(instance.uid)
        if dataset is None:
            soak.fail(f"{how}: {instance.uid} was acknowledged and did not come")
        elif not soak.matches(instance, dataset):
            soak.fail(f"{how}: {instance.uid} came with other bytes")
        else:
            soak.count(f"{how} objects")
    soak.count(how)


class Listening:
    """A server on a free port: each connection has a thread, which ends with it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        with contextlib.suppress(*GONE), connection:
            self.answer(connection)

    def answer(self, connection: socket.socket) -> None:
        """Answer one client, until it or the server goes."""
        raise NotImplementedError

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


class Destination(Listening):
    """Where C-MOVEs go; takes whatever is sent, and keeps it until it is asked for."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._taken: dict[str, bytes] = {}
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, connection: socket.socket) -> None:
        """Take whatever comes."""
        client = Client.__new__(Client)
        client.sock = connection
        answer = client.pdu()
        if answer is None or answer[0] != peer.ASSOCIATE_RQ:
            return
        client.send(wire.accept_rq(answer[1]))
        while True:
            context_id, elements, data = client.next_message()
            uid = elements[0x1000].decode().strip("\0 ")
            with self._lock:
                self._taken[uid] = data or b""
            response = wire.store_response(elements, wire.SUCCESS)
            client.send(peer.message(context_id, response))

    def take(self, uids: list[str]) -> dict[str, bytes]:
        """What came of these, which is then forgotten."""
        with self._lock:
            return {uid: self._taken.pop(uid) for uid in uids if uid in self._taken}


def mover(destination: Destination, title: str) -> Callable[[Soak], None]:
    """Have studies moved to a destination: what was acknowledged before comes."""

    def move(soak: Soak) -> None:
        study = soak.any_study()
        if study is None:
            return
        uid, instances = study
        with soak.open() as client:
            status, completed = client.move(uid, title)
            client.close()
        got = destination.take([each.uid for each in instances])
        if status != wire.SUCCESS:
            soak.fail(f"C-MOVE of {uid} ended with 0x{status:04X}, {completed} completed")
            return
        compare(soak, "C-MOVE", instances, got)

    return move


# --- those who break off ---


def _half_request(soak: Soak) -> None:
    with peer.Peer(("127.0.0.1", soak.port)) as client:
        whole = peer.associate_rq()
        client.send(whole[: random.randrange(1, len(whole))])


def _garbage(soak: Soak) -> None:
    with peer.Peer(("127.0.0.1", soak.port)) as client:
        client.send(random.randbytes(random.randrange(1, 4000)))
        client.pdu()


def _half_object(soak: Soak, end: Callable[[Client], None]) -> None:
    chance = random.Random()
    with soak.open() as client:
        command = peer.store_rq(1, f"{wire.ROOT}.99.{chance.getrandbits(40)}")
        client.send(peer.p_data(peer.pdv(wire.STORE_ID, peer.COMMAND | peer.LAST, command)))
        for _ in range(chance.randrange(0, 40)):
            client.send(peer.p_data(peer.pdv(wire.STORE_ID, 0, bytes(100_000))))
        client.send(peer.p_data(peer.pdv(wire.STORE_ID, 0, bytes(5000)))[: chance.randrange(2000)])
        end(client)


def _hang_up(client: Client) -> None:
    client.sock.close()


def _abort(client: Client) -> None:
    client.send(peer.pdu(peer.ABORT, b"\0\0\0\0"))


def _reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def _stall(_: Client) -> None:
    time.sleep(random.random() * 5)


def _leave_results(soak: Soak) -> None:
    """Ask for everything, and go before it has come."""
    study = soak.any_study()
    with soak.open() as client:
        if study is not None:
            keys = wire.identifier("STUDY", study=study[0])
            command = wire.request(wire.C_GET, wire.STUDY_ROOT_GET)
            client.send(peer.message(wire.GET_ID, command, keys))
            client.pdu()
        _reset(client)


def _every_study(soak: Soak) -> None:
    with soak.open() as client:
        command = wire.request(peer.C_FIND, wire.STUDY_ROOT_FIND)
        client.send(peer.message(wire.FIND_ID, command, wire.identifier("STUDY", study="")))
        client.pdu()
        _abort(client)


def _byte_by_byte(soak: Soak) -> None:
    with peer.Peer(("127.0.0.1", soak.port)) as client:
        for byte in peer.associate_rq()[: random.randrange(1, 30)]:
            client.send(bytes([byte]))
            if soak.stop.wait(0.2):
                break


def _silent(soak: Soak) -> None:
    with soak.open():
        soak.stop.wait(random.random() * 5)


BREAKING: dict[str, Callable[[Soak], None]] = {
    "half a request": _half_request,
    "garbage": _garbage,
    "hangs up in mid-object": lambda soak: _half_object(soak, _hang_up),
    "aborts in mid-object": lambda soak: _half_object(soak, _abort),
    "resets in mid-object": lambda soak: _half_object(soak, _reset),
    "stalls in mid-object": lambda soak: _half_object(soak, _stall),
    "leaves a C-GET": _leave_results,
    "aborts a C-FIND": _every_study,
    "a byte at a time": _byte_by_byte,
    "says nothing": _silent,
}


def break_off(soak: Soak) -> None:
    """One of them, at random."""
    name = random.choice(list(BREAKING))
    soak.count("broke off")
    with contextlib.suppress(*GONE):  # the server may have answered as it should: by an abort
        BREAKING[name](soak)
