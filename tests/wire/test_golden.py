"""Golden pairs: what a peer sends, byte for byte, and what it must be answered.

`NNN-name.hex` holds the peer's bytes (hex, `#` begins a comment), `NNN-name.toml` what is expected:
`about`, `source` (where the standard says so), `answers` in order, and `stored`, the objects that
reach the C-STORE handler (SOP Instance UID and bytes). A bug from the wire becomes a pair first.
"""

import struct
import tomllib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from tests.support.dicom_peer import COMMAND, LAST, Peer, echo, read_command, until
from tests.support.serving import make_ae, serving

HERE = Path(__file__).parent
PAIRS = sorted(HERE.glob("*valid/*.toml"))


def bytes_of(path):
    lines = path.with_suffix(".hex").read_text(encoding="ascii").splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


@pytest.fixture(scope="module")
def stored():
    return []


@pytest.fixture(scope="module")
def server(stored):
    def store(event):
        stored.append(
            f"{event.request.AffectedSOPInstanceUID} {len(event.request.DataSet.getvalue())}"
        )
        return 0x0000

    def find(event):
        if event.is_cancelled:
            yield 0xFE00, None
            return
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", "1.2.3"
        yield 0xFF00, match

    ae = make_ae(require_called_aet=True, network_timeout=5, acse_timeout=5)
    with serving((evt.EVT_C_STORE, store), (evt.EVT_C_FIND, find), ae=ae) as server:
        yield server


def contexts_of(body):
    """The results in an A-ASSOCIATE-AC: 'context ID:result' of each."""
    position, told = 68, []
    while position < len(body):
        kind, length = struct.unpack_from(">BxH", body, position)
        if kind == 0x21:
            told.append(f"{body[position + 4]}:{body[position + 6]}")
        position += 4 + length
    return " ".join(told)


def answers_of(peer):
    """What the server says, in words, until it closes."""
    encoded = b""
    while True:
        answer = peer.pdu()
        if answer is None:
            yield "closed"
            return
        kind, body = answer
        if kind == 2:
            yield f"A-ASSOCIATE-AC {contexts_of(body)}"
        elif kind == 3:
            yield "A-ASSOCIATE-RJ {} {} {}".format(*body[1:])
        elif kind == 4:
            while body:
                length, _, control = struct.unpack_from(">IBB", body)
                if control & COMMAND:
                    encoded += body[6 : 4 + length]
                    if control & LAST:
                        elements = read_command(encoded)
                        field, status, of = (
                            int.from_bytes(elements[n], "little") for n in (0x100, 0x900, 0x120)
                        )
                        yield f"0x{field:04X} to {of}: 0x{status:04X}"
                        encoded = b""
                body = body[4 + length :]
        elif kind == 6:
            yield "A-RELEASE-RP"
        else:
            yield f"A-ABORT {body[2]}"


def test_every_pair_is_whole():
    assert PAIRS
    for folder in (HERE / "valid", HERE / "invalid"):
        stems = sorted(each.stem for each in folder.glob("*.toml"))
        assert stems == sorted(each.stem for each in folder.glob("*.hex"))
        numbers = [stem.partition("-")[0] for stem in stems]
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_sent_is_answered_as_expected(pair, server, stored):
    expected = tomllib.loads(pair.read_text(encoding="utf-8"))
    stored.clear()
    with Peer(server.server_address) as peer:
        peer.send(bytes_of(pair))
        answers = []
        for answer in answers_of(peer):
            answers.append(answer)
            if answer.startswith(("A-RELEASE-RP", "A-ABORT", "A-ASSOCIATE-RJ")):
                break  # it is the peer that closes now
            if len(answers) == len(expected["answers"]) and not answer.startswith("closed"):
                break  # so it does in a pair without an end
    assert answers == expected["answers"]
    assert stored == expected.get("stored", [])
    assert until(lambda: not server.active_associations)
    echo(server.server_address)
