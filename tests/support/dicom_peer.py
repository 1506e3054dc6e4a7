"""A DICOM peer made of bytes: PDUs built with struct and sent over a plain socket.

It knows no pynetdicom, so that it can send what no toolkit would.
"""

import os
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
CONTEXTS = ((1, VERIFICATION, (IMPLICIT,)), (3, CT, (IMPLICIT,)), (5, STUDY_ROOT_FIND, (IMPLICIT,)))

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, DATA, LAST = 1, 0, 2
C_STORE, C_FIND, C_ECHO, C_CANCEL = 0x0001, 0x0020, 0x0030, 0x0FFF
NO_DATA_SET, DATA_SET = 0x0101, 0x0001
EVERYWHERE = os.sched_getaffinity(0)  # the processors of this process


def pdu(kind, body):
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind, body):
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    contexts=CONTEXTS,
    *,
    called="ANY-SCP",
    calling="PEER",
    max_length=16384,
    application_context=APPLICATION_CONTEXT,
    version=1,
    user_items=b"",
):
    body = struct.pack(
        ">Hxx16s16s32x", version, called.ljust(16).encode(), calling.ljust(16).encode()
    )
    body += item(0x10, application_context.encode())
    for context_id, abstract, transfers in contexts:
        inner = struct.pack(">Bxxx", context_id) + item(0x30, abstract.encode())
        inner += b"".join(item(0x40, each.encode()) for each in transfers)
        body += item(0x20, inner)
    user = item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.826.0.1.99")
    return pdu(ASSOCIATE_RQ, body + item(0x50, user + user_items))


def pdv(context_id, control, data):
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def p_data(*pdvs):
    return pdu(P_DATA, b"".join(pdvs))


def element(number, value):
    return struct.pack("<HHI", 0, number, len(value)) + value


def us(number, value):
    return element(number, struct.pack("<H", value))


def uid(number, value):
    return element(number, value.encode() + b"\0" * (len(value) % 2))


def command(*elements):
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body))) + body


def echo_rq(message_id=1):
    return command(
        uid(0x0002, VERIFICATION),
        us(0x0100, C_ECHO),
        us(0x0110, message_id),
        us(0x0800, NO_DATA_SET),
    )


def store_rq(message_id=1, instance="1.2.3.4", sop_class=CT):
    return command(
        uid(0x0002, sop_class),
        us(0x0100, C_STORE),
        us(0x0110, message_id),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
        uid(0x1000, instance),
    )


def find_rq(message_id=1, sop_class=STUDY_ROOT_FIND):
    return command(
        uid(0x0002, sop_class),
        us(0x0100, C_FIND),
        us(0x0110, message_id),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
    )


def cancel_rq(message_id=1):
    return command(us(0x0100, C_CANCEL), us(0x0120, message_id), us(0x0800, NO_DATA_SET))


def message(context_id, encoded_command, data_set=None):
    """One message, command and data set each in a PDU of its own."""
    pdus = p_data(pdv(context_id, COMMAND | LAST, encoded_command))
    return pdus if data_set is None else pdus + p_data(pdv(context_id, DATA | LAST, data_set))


def data_set(instance="1.2.3.4", padding=0, sop_class=CT):
    """A small data set in Implicit VR Little Endian, with `padding` bytes of Pixel Data."""

    def value(group, number, content):
        content += b"\0" * (len(content) % 2)
        return struct.pack("<HHI", group, number, len(content)) + content

    encoded = value(0x0008, 0x0016, sop_class.encode()) + value(0x0008, 0x0018, instance.encode())
    encoded += value(0x0010, 0x0010, b"Doe^John") + value(0x0020, 0x000D, b"1.2.3")
    encoded += value(0x0020, 0x000E, b"1.2.3.1")
    return encoded + (value(0x7FE0, 0x0010, b"\x5a" * padding) if padding else b"")


RELEASE = pdu(RELEASE_RQ, b"\0\0\0\0")


def read_command(encoded):
    elements, position = {}, 0
    while position < len(encoded):
        _, number, length = struct.unpack_from("<HHI", encoded, position)
        elements[number] = encoded[position + 8 : position + 8 + length]
        position += 8 + length
    return elements


class Peer:
    """A connection that reads PDUs and messages."""

    def __init__(self, address, timeout=10.0, *, nagle=True, receive_buffer=None, source=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if source:
            self.sock.bind((source, 0))
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(address[:2])
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not nagle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *parts):
        self.sock.sendall(b"".join(parts))

    def _exactly(self, size):
        got = b""
        while len(got) < size:
            piece = self.sock.recv(size - len(got))
            if not piece:
                return None
            got += piece
        return got

    def pdu(self):
        """The next PDU as (type, body), or None when the server has closed."""
        try:
            head = self._exactly(6)
            if head is None:
                return None
            kind, length = struct.unpack(">BxI", head)
            return kind, self._exactly(length)
        except ConnectionResetError:
            return None

    def associate(self, *args, **kwargs):
        self.send(associate_rq(*args, **kwargs))
        kind, body = self.pdu()
        assert kind == ASSOCIATE_AC, (kind, body)
        return body

    def message(self):
        """The next message as (context ID, command elements, data set or None)."""
        encoded, data, context_id = b"", None, None
        while True:
            kind, body = self.pdu()
            assert kind == P_DATA, (kind, body)
            while body:
                length, context_id, control = struct.unpack_from(">IBB", body)
                fragment, body = body[6 : 4 + length], body[4 + length :]
                if control & COMMAND:
                    encoded += fragment
                else:
                    data = (data or b"") + fragment
                if control & LAST:
                    elements = read_command(encoded)
                    if not control & COMMAND or elements[0x0800] == b"\x01\x01":
                        return context_id, elements, data

    def status(self):
        """The status of the next response."""
        _, elements, _ = self.message()
        return int.from_bytes(elements[0x0900], "little")

    def echo(self, message_id=1):
        self.send(message(1, echo_rq(message_id)))
        return self.status()

    def release(self):
        self.send(RELEASE)
        assert self.pdu() == (RELEASE_RP, b"\0\0\0\0")
        self.sock.close()


def echo(address, **kwargs):
    """Associate, echo, release: the server still serves."""
    with Peer(address, **kwargs) as peer:
        peer.associate()
        assert peer.echo() == 0x0000
        peer.release()


def until(condition, timeout=10.0):
    """Wait until a condition holds; False when it never did."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def descriptors():
    """How many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def bound_threads(pid="self"):
    """How many threads of a process may not run on every processor that this one might at first."""
    bound = 0
    for each in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            bound += os.sched_getaffinity(int(each.name)) != EVERYWHERE
    return bound


@contextmanager
def nothing_left_behind():
    """Fail when what runs inside leaves a thread or a file descriptor."""
    threads, open_before = set(threading.enumerate()), descriptors()
    yield
    assert until(lambda: set(threading.enumerate()) <= threads), threading.enumerate()
    assert until(lambda: descriptors() <= open_before), "a file descriptor is left open"
