"""Who comes to the server during a soak to do harm: each takes what it can get, for a few seconds.

They come from addresses of their own (127.0.0.2 and so on), as strangers do. That the server cuts
them off is right. What counts is what the others feel of it: how long an honest C-ECHO takes, and
how much memory the server's processes have together; `Watch` keeps both.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import wire
from clients import GONE, Listening, Soak
from PIL import Image
from wire import peer

SC = "1.2.840.10008.5.1.4.1.1.7"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
EVIL = "EVIL"  # the title of the peer that answers without end
ROUND_S = 4.0  # how long one attack goes on
PICTURE = 12_000  # rows and columns of a JPEG of 1.7 MB
MEGABYTE = 1 << 20
WATCH_S = 0.1
ECHO_EVERY_S = 0.5


class Attack:
    """What the attackers share.

    Args:
        soak: the server's address, and what is counted.
        http_port: of its page.
        token: a bearer token for the page.
    """

    def __init__(self, soak: Soak, http_port: int, token: str) -> None:
        self.soak = soak
        self.http_port = http_port
        self.token = token
        self._numbers = itertools.count(2)
        self._picture_uid = ""
        self._lock = threading.Lock()

    def address(self) -> str:
        """Another address of this machine each time."""
        number = next(self._numbers)
        return f"127.0.{number // 250 % 250}.{number % 250 + 2}"

    def connect(self, port: int = 0) -> socket.socket:
        """A connection to the DICOM port, or another."""
        return socket.create_connection(
            ("127.0.0.1", port or self.soak.port), 10, source_address=(self.address(), 0)
        )

    @contextlib.contextmanager
    def associate(
        self, *contexts: tuple[int, str, str], roles: bytes = b""
    ) -> Iterator[socket.socket]:
        """An association from a stranger's address."""
        with self.connect() as sock:
            proposed = [(number, abstract, (syntax,)) for number, abstract, syntax in contexts]
            sock.sendall(
                peer.associate_rq(
                    proposed, called=self.soak.title, calling="STRANGER", user_items=roles
                )
            )
            if not sock.recv(65536).startswith(b"\x02"):
                raise ConnectionError("no association")
            yield sock

    def ask_page(self, method: str, path: str, body: object = None) -> bytes:
        """One request to the API, as somebody who has a token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            return connection.getresponse().read()
        except http.client.HTTPException as problem:
            raise ConnectionError(str(problem)) from None
        finally:
            connection.close()

    def picture(self) -> str:
        """The UID of a stored picture that is small on the disk and large in memory."""
        with self._lock:
            if not self._picture_uid:
                uid = f"{wire.ROOT}.98.{random.getrandbits(40)}"
                with self.associate((3, SC, JPEG_BASELINE)) as sock:
                    command = peer.store_rq(1, uid, SC)
                    sock.sendall(peer.p_data(peer.pdv(3, peer.COMMAND | peer.LAST, command)))
                    _send_pieces(sock, 3, _large_picture(uid))
                    sock.recv(65536)
                self._picture_uid = uid
            return self._picture_uid


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def _large_picture(uid: str) -> bytes:
    out = io.BytesIO()
    Image.new("L", (PICTURE, PICTURE), 7).save(out, "JPEG", quality=10)
    jpeg = out.getvalue() + b"\0" * (len(out.getvalue()) % 2)
    texts = (
        (0x08, 0x16, SC),
        (0x08, 0x18, uid),
        (0x20, 0x0D, f"{uid}.1"),
        (0x20, 0x0E, f"{uid}.2"),
    )
    numbers = ((0x10, PICTURE), (0x11, PICTURE), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0))
    encoded = b"".join(_element(g, e, b"UI", value.encode()) for g, e, value in texts)
    encoded += _element(0x28, 2, b"US", b"\1\0") + _element(0x28, 4, b"CS", b"MONOCHROME2")
    for element, number in numbers:
        encoded += _element(0x28, element, b"US", struct.pack("<H", number))
    encoded += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    encoded += struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(jpeg)) + jpeg
    return encoded + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _send_pieces(sock: socket.socket, context_id: int, data: bytes | memoryview) -> None:
    for at in range(0, len(data), 100_000):
        last = peer.LAST if at + 100_000 >= len(data) else 0
        sock.sendall(peer.p_data(peer.pdv(context_id, last, bytes(data[at : at + 100_000]))))


def _key(group: int, element: int, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HHI", group, element, len(value)) + value


def _find(sock: socket.socket, keys: bytes, level: bytes = b"STUDY") -> None:
    command = wire.request(peer.C_FIND, wire.STUDY_ROOT_FIND)
    sock.sendall(peer.p_data(peer.pdv(5, peer.COMMAND | peer.LAST, command)))
    _send_pieces(sock, 5, _key(0x0008, 0x0052, level) + keys)


_FIND = (5, wire.STUDY_ROOT_FIND, peer.IMPLICIT)
_GET = (9, wire.STUDY_ROOT_GET, peer.IMPLICIT)
_SC = (3, SC, peer.IMPLICIT)
_ROLE = peer.item(0x54, struct.pack(">H", len(SC)) + SC.encode() + b"\1\1")


def _asks_while_it_is_served(attack: Attack) -> None:
    study = f"{attack.picture()}.1".encode()
    with attack.associate(_SC, _GET, _FIND, roles=_ROLE) as sock:
        command = wire.request(wire.C_GET, wire.STUDY_ROOT_GET)
        keys = _key(0x0008, 0x0052, b"STUDY") + _key(0x0020, 0x000D, study)
        sock.sendall(peer.message(9, command, keys))
        for _ in range(100):
            _find(sock, _key(0x0011, 0x1010, bytes(4 * MEGABYTE)))


def _cancels_without_end(attack: Attack) -> None:
    with attack.associate(_FIND) as sock:
        _find(sock, b"")
        cancels = peer.p_data(peer.pdv(5, 3, peer.cancel_rq())) * 1000
        until = time.monotonic() + ROUND_S
        while time.monotonic() < until:
            sock.sendall(cancels)


def _explodes_keys(attack: Attack) -> None:
    nasty = (
        (b"SERIES", _key(0x20, 0x11, b"\\".join(b"%d" % each for each in range(100_000)))),
        (b"STUDY", _key(0x10, 0x10, b"\\".join(b"A%d*" % each for each in range(60_000)))),
        (b"STUDY", _key(0x10, 0x10, b"A=" * 100_000)),
        (b"STUDY", _key(0x10, 0x10, b"*a" * 50_000)),
        (b"STUDY", _key(0x10, 0x10, b"A" * 900_000)),
    )
    level, keys = random.choice(nasty)
    with attack.associate(_FIND) as sock:
        _find(sock, keys, level)
        sock.recv(65536)


def _asks_with_an_endless_key(attack: Attack) -> None:
    with attack.associate(_FIND) as sock:
        _find(sock, _key(0x0011, 0x1010, bytes(60 * MEGABYTE)))
        sock.recv(65536)


def _leaves_decoded_objects(attack: Attack) -> None:
    study = f"{attack.picture()}.1".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(attack.associate(_SC, _GET, roles=_ROLE))
            command = wire.request(wire.C_GET, wire.STUDY_ROOT_GET)
            keys = _key(0x0008, 0x0052, b"STUDY") + _key(0x0020, 0x000D, study)
            sock.sendall(peer.message(9, command, keys))
        attack.soak.stop.wait(ROUND_S)


def _looks_at_a_large_picture(attack: Attack) -> None:
    uid = attack.picture()
    attack.ask_page("GET", f"/api/instances/{uid}/thumbnail")
    attack.ask_page("GET", f"/api/instances/{uid}/frames/1?encoding=png")


def _connects_and_says_nothing(attack: Attack) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(attack.connect())
        attack.soak.stop.wait(ROUND_S)


def _connects_often_from_one_address(attack: Attack) -> None:
    address = attack.address()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            server = ("127.0.0.1", attack.soak.port)
            stack.enter_context(socket.create_connection(server, 10, source_address=(address, 0)))
        attack.soak.stop.wait(ROUND_S)


def _sends_half_requests(attack: Attack) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(attack.connect(attack.http_port))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        attack.soak.stop.wait(ROUND_S)


def _guesses_passwords(attack: Attack) -> None:
    body = b"name=doctor&password=wrong"
    head = (
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with contextlib.ExitStack() as stack:
        guesses = [stack.enter_context(attack.connect(attack.http_port)) for _ in range(30)]
        for each in guesses:
            each.sendall(head + body)
        for each in guesses:
            each.recv(4096)


def _has_an_evil_peer_asked(attack: Attack) -> None:
    answer = json.loads(
        attack.ask_page("POST", "/api/find", {"peer": EVIL, "keys": {"PatientName": ""}})
    )
    attack.soak.stop.wait(ROUND_S)
    if "id" in answer:
        attack.ask_page("POST", f"/api/jobs/{answer['id']}/cancel", {})


def _uses_the_wrong_context(attack: Attack) -> None:
    with attack.associate((3, peer.VERIFICATION, peer.IMPLICIT)) as sock:
        uid = f"{wire.ROOT}.97.{random.getrandbits(40)}"
        sock.sendall(peer.message(3, peer.store_rq(1, uid), peer.data_set(uid)))
        answer = sock.recv(65536)
        if answer[:1] == b"\x04" and b"\0\0\0\x09\2\0\0\0\0\0" in answer:
            attack.soak.fail("an object was stored over a context of Verification")


ATTACKS: dict[str, Callable[[Attack], None]] = {
    "asks while it is served": _asks_while_it_is_served,
    "cancels without end": _cancels_without_end,
    "explodes keys": _explodes_keys,
    "asks with a key of 60 MB": _asks_with_an_endless_key,
    "leaves decoded objects": _leaves_decoded_objects,
    "looks at a large picture": _looks_at_a_large_picture,
    "300 silent connections": _connects_and_says_nothing,
    "300 from one address": _connects_often_from_one_address,
    "300 half HTTP requests": _sends_half_requests,
    "guesses passwords": _guesses_passwords,
    "has an evil peer asked": _has_an_evil_peer_asked,
    "uses the wrong context": _uses_the_wrong_context,
}


def attacker(attack: Attack, first: int) -> None:
    """One attack after the other, whatever becomes of the server meanwhile."""
    soak = attack.soak
    kinds = list(ATTACKS.values())
    for turn in itertools.count(first):
        if soak.stop.wait(0.2):
            return
        soak.go.wait()
        soak.count("attacks")
        with contextlib.suppress(*GONE, ValueError):  # it was cut off, as it should be
            kinds[turn % len(kinds)](attack)


def _received(connection: socket.socket, size: int) -> bytes:
    """So many bytes; ConnectionError if the server was killed before it had sent them."""
    received = connection.recv(size, socket.MSG_WAITALL)
    if len(received) < size:
        raise ConnectionError(f"{len(received)} of {size} bytes")
    return received


class EvilPeer(Listening):
    """A DICOM server whose one answer to a query never ends."""

    def answer(self, connection: socket.socket) -> None:
        """Take the association and the query, then send matches for ever."""
        length = struct.unpack(">BxI", _received(connection, 6))[1]
        connection.sendall(wire.accept_rq(_received(connection, length)))
        context_id = _received(connection, 11)[10]
        connection.recv(10_000)
        command = peer.command(
            peer.uid(0x0002, wire.STUDY_ROOT_FIND),
            peer.us(0x0100, peer.C_FIND | wire.RESPONSE),
            peer.us(0x0120, 1),
            peer.us(0x0800, peer.DATA_SET),
            peer.us(0x0900, 0xFF00),
        )
        match = _key(0x0020, 0x4000, b"A" * (60 * MEGABYTE))
        while True:
            connection.sendall(peer.p_data(peer.pdv(context_id, peer.COMMAND | peer.LAST, command)))
            _send_pieces(connection, context_id, memoryview(match))


class Watch:
    """What an honest client feels, and what the server's processes have at most.

    Args:
        soak: the server, and when to end.
        memory_mb: what all its processes have now.
    """

    def __init__(self, soak: Soak, memory_mb: Callable[[], float]) -> None:
        self._soak = soak
        self._memory_mb = memory_mb
        self.echoes: list[float] = []
        self.most_memory_mb = 0.0

    def watch_memory(self) -> None:
        """Look again and again."""
        while not self._soak.stop.wait(WATCH_S):
            self.most_memory_mb = max(self.most_memory_mb, self._memory_mb())

    def echo(self) -> None:
        """Associate and ask for an echo, again and again."""
        while not self._soak.stop.wait(ECHO_EVERY_S):
            self._soak.go.wait()
            began = time.monotonic()
            try:
                with self._soak.open() as client:
                    client.ask_for_echo()
                    client.close()
            except GONE:
                if not self._soak.go.is_set() or self._soak.stop.is_set():
                    continue  # it was killed meanwhile
                self._soak.count("echoes cut off")
                continue
            self.echoes.append(time.monotonic() - began)

    def slowest(self, share: float) -> float:
        """How long so many of the echoes took at most, in seconds."""
        ordered = sorted(self.echoes) or [0.0]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def memory_of(pids: list[int]) -> float:
    """The resident memory of these processes that they share with nothing, in megabytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/statm").read_text().split()
            total += int(fields[1]) - int(fields[2])
    return total * 4096 / 1e6
