"""Peers and visitors who mean harm, on a real node: each is refused, bounded, or made harmless."""

from __future__ import annotations

import http.client
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.dicom_peer import (
    C_FIND,
    COMMAND,
    CT,
    DATA_SET,
    EXPLICIT,
    IMPLICIT,
    LAST,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Peer,
    associate_rq,
    command,
    element,
    item,
    p_data,
    pdv,
    uid,
    us,
)
from tests.support.node_process import NodeProcess, run_lfscp

DEFLATED = "1.2.840.10008.1.2.1.99"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
UNDEFINED = 0xFFFFFFFF
UNABLE_TO_PROCESS = 0xC001
ECHO_ID, PLAIN_ID, DEFLATED_ID, FIND_ID, GET_ID, DEFLATED_FIND_ID = 1, 3, 5, 7, 9, 11
ROLE = item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")


def short(tag: int, vr: bytes, value: bytes | str) -> bytes:
    """An element of explicit VR with a short length."""
    encoded = value.encode("latin_1") if isinstance(value, str) else value
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(encoded)) + encoded


def long(tag: int, vr: bytes, length: int) -> bytes:
    """The head of an element with a long length."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def dataset(
    instance: str = "1.2.3.1.1",
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    name: str = "Doe^Jane",
    patient: str = "P1",
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A small object in explicit VR little endian; `before` stands before the patient's name."""
    return b"".join(
        (
            short(0x00080016, b"UI", CT),
            short(0x00080018, b"UI", instance),
            before,
            short(0x00100010, b"PN", name),
            short(0x00100020, b"LO", patient),
            short(0x0020000D, b"UI", study),
            short(0x0020000E, b"UI", series),
            after,
        )
    )


def deflated(*pieces: bytes, repeated: tuple[int, bytes] = (0, b"")) -> bytes:
    """Deflate pieces, and behind them one that is repeated, which is deflated once."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = b"".join(map(deflate.compress, pieces)) + deflate.flush(zlib.Z_FULL_FLUSH)
    times, piece = repeated
    data += (deflate.compress(piece) + deflate.flush(zlib.Z_FULL_FLUSH)) * times + deflate.flush()
    return data + b"\0" * (len(data) % 2)


def whole(context_id: int, encoded_command: bytes, data: bytes) -> bytes:
    """A message, its data set in PDUs that the node takes."""
    pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    last = len(pieces) - 1
    sent = [p_data(pdv(context_id, COMMAND | LAST, encoded_command))]
    sent += [p_data(pdv(context_id, LAST * (n == last), each)) for n, each in enumerate(pieces)]
    return b"".join(sent)


def store_command(instance: bytes | str) -> bytes:
    encoded = instance.encode() if isinstance(instance, str) else instance
    return command(
        uid(0x0002, CT),
        us(0x0100, 0x0001),
        us(0x0110, 1),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
        element(0x1000, encoded + b"\0" * (len(encoded) % 2)),
    )


class Attacker(Peer):
    """An association with all that is needed."""

    def __init__(self, node: NodeProcess, *, takes_deflated: bool = True) -> None:
        super().__init__(("127.0.0.1", node.port), timeout=60)
        self.associate(
            [
                (ECHO_ID, VERIFICATION, (IMPLICIT,)),
                (PLAIN_ID, CT, (EXPLICIT,)),
                *([(DEFLATED_ID, CT, (DEFLATED,))] if takes_deflated else []),
                (FIND_ID, STUDY_ROOT_FIND, (EXPLICIT,)),
                (GET_ID, STUDY_ROOT_GET, (EXPLICIT,)),
                (DEFLATED_FIND_ID, STUDY_ROOT_FIND, (DEFLATED,)),
            ],
            max_length=131072,
            user_items=ROLE,
        )

    def store(
        self, data: bytes, instance: bytes | str = "1.2.3.1.1", context: int = PLAIN_ID
    ) -> int:
        self.send(whole(context, store_command(instance), data))
        return self.status()

    def find(self, *keys: bytes, context: int = FIND_ID, encode: Any = None) -> tuple[int, int]:
        """The last status, and how many matches came before it."""
        asked = short(0x00080052, b"CS", "STUDY") + b"".join(keys)
        asked = encode(asked) if encode else asked
        request = command(
            uid(0x0002, STUDY_ROOT_FIND),
            us(0x0100, C_FIND),
            us(0x0110, 1),
            us(0x0700, 0),
            us(0x0800, DATA_SET),
        )
        self.send(whole(context, request, asked))
        matches = 0
        while (status := self.status()) in (0xFF00, 0xFF01):
            matches += 1
        return status, matches

    def get(self, study: str = "1.2.3") -> tuple[int, int, int]:
        """Retrieve a study, in explicit VR only: status, completed, failed."""
        keys = short(0x00080052, b"CS", "STUDY") + short(0x0020000D, b"UI", study)
        request = command(
            uid(0x0002, STUDY_ROOT_GET),
            us(0x0100, 0x0010),
            us(0x0110, 1),
            us(0x0700, 0),
            us(0x0800, DATA_SET),
        )
        self.send(whole(GET_ID, request, keys))
        while True:
            context_id, elements, _ = self.message()
            if elements[0x0100] == b"\1\0":
                answer = command(
                    element(0x0002, elements[0x0002]),
                    us(0x0100, 0x8001),
                    element(0x0120, elements[0x0110]),
                    us(0x0800, 0x0101),
                    us(0x0900, 0),
                    element(0x1000, elements[0x1000]),
                )
                self.send(p_data(pdv(context_id, COMMAND | LAST, answer)))
                continue
            number = {n: int.from_bytes(value, "little") for n, value in elements.items()}
            if number[0x0900] != 0xFF00:
                return number[0x0900], number.get(0x1021, 0), number.get(0x1022, 0)


def memory_mb(node: NodeProcess) -> float:
    """The most that the node's process has had."""
    for line in Path(f"/proc/{node.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, int]]:
    """One node for all, with its page; at the end it must be well and have nothing to regret."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        http_port = probe.getsockname()[1]
    node = NodeProcess(tmp_path_factory.mktemp("attacked"), flags=["--http-port", http_port])
    try:
        node.start()
        yield node, http_port
        assert node.is_running
        assert node.stop() == 0
        assert node.complaints() == []
        raw = "\n".join(node.lines)
        assert all(each.isprintable() or each == "\n" for each in raw)
    finally:
        node.kill()
    checked = run_lfscp("check", "--data-dir", node.data_dir)
    assert (checked.returncode, checked.stdout) == (0, "index and objects agree\n")


@pytest.fixture
def node(attacked: tuple[NodeProcess, int]) -> NodeProcess:
    return attacked[0]


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


# --- datasets ---


def test_a_dataset_that_explodes_is_kept_small_wherever_it_is_used(
    attacked: tuple[NodeProcess, int],
) -> None:
    """600 MB of zeros in 600 KB: stored as they came, and never inflated whole."""
    node, port = attacked
    pixels = long(0x7FE00010, b"OW", 600 << 20)
    bomb = deflated(
        dataset("1.2.66.1.1", study="1.2.66", series="1.2.66.1"),
        pixels,
        repeated=(600, bytes(1 << 20)),
    )
    assert len(bomb) < 1_000_000
    before = memory_mb(node)
    with Attacker(node) as peer:
        assert peer.store(bomb, "1.2.66.1.1", DEFLATED_ID) == 0x0000
        peer.release()
    with Attacker(node, takes_deflated=False) as peer:  # it would have to be inflated
        assert peer.get("1.2.66")[1:] == (0, 1)
        peer.release()
    assert 400 <= ask(port, "/api/instances/1.2.66.1.1/frames/1")[0] < 500
    assert memory_mb(node) - before < 200


def test_a_header_that_explodes_is_refused(node: NodeProcess) -> None:
    before = memory_mb(node)
    filler = short(0x00090010, b"LO", bytes(60_000))
    bomb = deflated(dataset()[:60], repeated=(40, filler * 100))
    with Attacker(node) as peer:
        assert peer.store(bomb, context=DEFLATED_ID) == 0xC000
        peer.release()
    assert memory_mb(node) - before < 400


def test_a_query_that_explodes_is_refused(node: NodeProcess) -> None:
    before = memory_mb(node)

    def bomb(keys: bytes) -> bytes:
        return deflated(keys, repeated=(60, short(0x00090010, b"LO", bytes(60_000)) * 100))

    with Attacker(node) as peer:
        assert peer.find(context=DEFLATED_FIND_ID, encode=bomb) == (UNABLE_TO_PROCESS, 0)
        assert peer.find(context=DEFLATED_FIND_ID, encode=deflated)[0] == 0x0000
        peer.release()
    assert memory_mb(node) - before < 100


@pytest.mark.parametrize("defined", [True, False], ids=["defined length", "undefined length"])
def test_sequences_10000_deep_are_stored_found_sent_and_shown(
    attacked: tuple[NodeProcess, int], defined: bool
) -> None:
    node, port = attacked
    depth, nested = 10_000, b""
    if defined:
        for _ in range(depth):
            nested = struct.pack("<HHL", 0xFFFE, 0xE000, len(nested)) + nested
            nested = long(0x00081140, b"SQ", len(nested)) + nested
    else:
        opened = long(0x00081140, b"SQ", UNDEFINED)
        opened += struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
        closed = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        nested = opened * depth + closed * depth
    study = f"1.2.77.{int(defined)}"
    instance = f"{study}.1.1"
    data = dataset(instance, study=study, series=f"{study}.1", before=nested)
    with Attacker(node) as peer:
        assert peer.store(data, instance) == 0x0000
        assert peer.find(short(0x0020000D, b"UI", study)) == (0x0000, 1)
        assert peer.get(study) == (0x0000, 1, 0)
        other = dataset(f"{instance}.9", study=study, series=f"{study}.1", before=nested)
        assert peer.store(deflated(other), f"{instance}.9", DEFLATED_ID) == 0x0000
        peer.release()
    with Attacker(node, takes_deflated=False) as peer:  # the second must be decoded
        assert peer.get(study)[1:] in ((2, 0), (1, 1))
        assert peer.echo() == 0x0000
    for path in (f"/api/instances/{instance}/elements", f"/api/instances/{instance}/frames/1"):
        assert ask(port, path)[0] < 500


def test_a_query_nested_10000_deep_is_answered(node: NodeProcess) -> None:
    opened = long(0x00400275, b"SQ", UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    closed = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    with Attacker(node) as peer:
        assert peer.find(opened * 10_000 + closed * 10_000)[0] in (
            0x0000,
            0xA900,
            UNABLE_TO_PROCESS,
        )
        assert peer.find(opened * 10_000)[0] in (0xA900, UNABLE_TO_PROCESS)
        assert peer.echo() == 0x0000


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 5000])
@pytest.mark.parametrize("tag", [0x00091001, 0x00191002])
def test_a_private_element_whose_length_lies_is_refused(
    node: NodeProcess, tag: int, length: int
) -> None:
    with Attacker(node) as peer:
        assert peer.store(dataset(before=long(tag, b"UN", length))) == 0xC000
        assert peer.echo() == 0x0000


# --- identifiers that are paths ---

PATHS = (
    "../../../evil",
    "/etc/evil",
    "..",
    ".",
    "1.2/../../evil",
    "1.2.3\0/../evil",
    "1." * 60 + "1",
    "1.2\\..\\evil",
    "~root",
    "-rf",
    "1.2.3\n4",
    "",
)


@pytest.mark.parametrize("hostile", PATHS)
@pytest.mark.parametrize("where", ["instance", "study", "series", "command"])
def test_a_uid_that_is_a_path_stays_outside(node: NodeProcess, where: str, hostile: str) -> None:
    files = set(node.data_dir.parent.parent.rglob("*evil*"))
    with Attacker(node) as peer:
        if where == "command":
            status = peer.store(dataset(), hostile)
        else:
            instance = hostile if where == "instance" else "1.2.88.1"
            status = peer.store(dataset(**{"instance": instance, where: hostile}), instance)
        assert status in (0xC000, 0xA900, 0x0117), hex(status)
        assert peer.echo() == 0x0000
    assert set(node.data_dir.parent.parent.rglob("*evil*")) == files
    assert not list(node.objects.glob("*/*/*.part"))


# --- keys and names ---


@pytest.mark.parametrize(
    "key",
    [
        "' OR '1'='1",
        "x'; DROP TABLE study; --",
        '" OR ""="',
        "%",
        "_%",
        "%' ESCAPE '!",
        "[A-Z]",
        "[!x]",
        "P[1]",
        "P\\1",
        ") OR 1=1 --",
    ],
)
def test_signs_that_mean_something_to_sql_stand_for_themselves(node: NodeProcess, key: str) -> None:
    with Attacker(node) as peer:
        assert peer.store(dataset("1.2.99.1.1", study="1.2.99", series="1.2.99.1")) in (
            0x0000,
            0xA900,
        )
        assert (
            peer.store(dataset("1.2.99.1.1", study="1.2.99", series="1.2.99.1"), "1.2.99.1.1")
            == 0x0000
        )
        for tag, vr in ((0x00100020, b"LO"), (0x00100010, b"PN"), (0x00080050, b"SH")):
            for pattern in (key, f"*{key}*"):
                status, matches = peer.find(short(tag, vr, pattern))
                assert (status, matches) == (0x0000, 0), (hex(tag), pattern)
        assert peer.find(short(0x00100020, b"LO", "P1"))[1] >= 1
        peer.release()


SCRIPT = "<script>alert(1)</script>^<img src=x onerror=alert(2)>"
ESCAPES = "\x1b]0;title\x07\x1b[31mRed\x1b[2J^\x9b31m\r\nfake line"


def test_markup_and_escapes_in_a_name_are_text_to_the_page_the_log_and_the_terminal(
    attacked: tuple[NodeProcess, int],
) -> None:
    node, port = attacked
    for number, name in enumerate((SCRIPT, ESCAPES)):
        study = f"1.2.55.{number}"
        data = dataset(f"{study}.1.1", study=study, series=f"{study}.1", name=name, patient=name)
        with Attacker(node) as peer:
            assert peer.store(data, f"{study}.1.1") == 0x0000
            peer.release()
        for path in ("/", f"/studies/{study}", f"/api/studies/{study}", "/api/studies?q=script"):
            status, body = ask(port, path)
            assert status in (200, 404), path
            if "<html" in body:
                assert "<script>alert" not in body
                assert "<img src=x" not in body
        if name == SCRIPT:
            continue
        target = f"LFSCP@127.0.0.1:{node.port}"
        keys = ("-k", f"StudyInstanceUID={study}", "-k", "PatientName", "-k", "PatientID")
        for options in ((), ("--json",)):
            found = run_lfscp("find", target, *keys, *options)
            assert found.returncode == 0, found.stderr
            assert all(each.isprintable() or each == "\n" for each in found.stdout)
            assert all(each.isprintable() or each == "\n" for each in found.stderr)
    assert "fake line" not in [line.strip() for line in node.lines]


@pytest.mark.parametrize("title", ["\x1b[31mRED", "A\nB", "A\\B", "<b>x</b>", "é"])
def test_an_odd_ae_title_reaches_no_log_raw(node: NodeProcess, title: str) -> None:
    with Peer(("127.0.0.1", node.port)) as peer:
        request = bytearray(16)
        request[: len(title.encode("latin_1"))] = title.encode("latin_1")
        sent = bytearray(associate_rq())
        sent[26:42] = bytes(request).replace(b"\0", b" ")
        peer.send(bytes(sent))
        assert peer.pdu() is not None
    with Attacker(node) as other:
        assert other.echo() == 0x0000
    assert all(line.isprintable() for line in node.lines)


# --- HTTP ---


def raw_http(port: int, sent: bytes, *, ends: bool = True) -> bytes:
    """All that is answered; a server may answer and close in the midst of it."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        if ends:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (
            "two lengths",
            b"POST /api/instances HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            b"Content-Length: 50\r\n\r\nhelloGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        (
            "length and chunks",
            b"POST /api/instances HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        (
            "an odd transfer encoding",
            b"POST /api/instances HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        ("a huge header", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000),
        ("many headers", b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n"),
        ("a huge path", b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "a header in the path",
            b"GET /%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("no host", b"GET /api/studies HTTP/1.1\r\n\r\n"),
        ("another host", b"GET /api/studies HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        ("a host of two", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
        ("a path upwards", b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "a path upwards, quoted",
            b"GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("no HTTP", b"\x01\x00\x00\x00\x00\x04abcd"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_odd_request_is_refused_and_the_page_lives(
    attacked: tuple[NodeProcess, int], name: str, sent: bytes
) -> None:
    _, port = attacked
    answer = raw_http(port, sent)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"set-cookie: x=1" not in head
    assert b"root:" not in answer
    assert b"traceback" not in answer.lower()
    statuses = [int(each[9:12]) for each in answer.split(b"\r\n") if each[:7] == b"HTTP/1."]
    assert all(status < 500 for status in statuses), statuses
    if name in ("two lengths", "a host of two"):
        assert 200 not in statuses
    if name == "another host":
        assert statuses == [] or statuses[0] >= 400
    assert ask(port, "/healthz")[0] == 200


def test_a_file_name_of_a_header_stays_a_name(attacked: tuple[NodeProcess, int]) -> None:
    _, port = attacked
    name = b'x\\"; filename=evil\r\nX-Injected: 1\r\n.dcm'
    body = (
        b'--cut\r\nContent-Disposition: form-data; name=files; filename="' + name + b'"\r\n'
        b"Content-Type: application/dicom\r\n\r\nnothing\r\n--cut--\r\n"
    )
    sent = (
        b"POST /api/instances HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=cut\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    answer = raw_http(port, sent, ends=False)
    assert b"x-injected" not in answer.partition(b"\r\n\r\n")[0].lower()
    assert int(answer[9:12]) < 500
