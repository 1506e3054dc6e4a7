"""The durability contract: SIGKILL at any moment loses nothing acknowledged and shows nothing else.

A writer process stores objects from several threads and prints each UID once it is
acknowledged; it is killed at random moments, the archive is opened again and compared.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.upkeep.check import check
from lfscp.dicom.values.attributes import Level
from tests.support.killed_writer import started

ROUNDS = 8
ROUNDS_WITH_POSTGRESQL = 5

WRITER = """
import itertools, sys, threading
from pathlib import Path
from tests.support.archive_datasets import received
from lfscp.archive.archive import Archive

archive = Archive.open(
    Path(sys.argv[1]), duplicates=sys.argv[3], index_url=sys.argv[4] or None
)
numbers = itertools.count(int(sys.argv[2]))

def write(thread):
    for number in numbers:
        uid = f"1.2.3.1.{number}"
        pixels = number.to_bytes(8, "little") * 4096
        archive.store(received(number, pixels=pixels))
        print(uid, number, flush=True)
        if number % 3 == 0:  # the same instance with other content
            archive.store(received(number, pixels=pixels[::-1]))
            print(uid, number, "again", flush=True)

threads = [threading.Thread(target=write, args=(thread,)) for thread in range(3)]
[thread.start() for thread in threads]
"""


def contents(number: int) -> tuple[bytes, bytes]:
    pixels = number.to_bytes(8, "little") * 4096
    return pixels, pixels[::-1]


def acknowledged_by_a_killed_writer(
    data: Path, first: int, policy: str, index_url: str | None
) -> list[list[str]]:
    """Run the writer, kill it at a random moment, and return what it acknowledged."""
    with (data.parent / "acknowledged").open("w+") as output:
        writer = started(WRITER, data, first, policy, index_url or "", stdout=output)
        while output.tell() == 0 and writer.poll() is None:  # until it is at work
            time.sleep(0.005)
            output.seek(0, 2)
        time.sleep(random.uniform(0, 0.15))
        writer.kill()
        writer.wait()
        output.seek(0)
        return [line.split() for line in output.read().splitlines() if line]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("policy", ["keep", "replace"])
def test_what_was_acknowledged_survives_sigkill(
    tmp_path: Path, policy: str, index_url: str | None
) -> None:
    data = tmp_path / "data"
    expected: dict[str, list[bytes]] = {}
    unacknowledged = 0
    for turn in range(ROUNDS if index_url is None else ROUNDS_WITH_POSTGRESQL):
        lines = acknowledged_by_a_killed_writer(data, 100_000 * (turn + 1), policy, index_url)
        assert lines, "the writer was killed before its first acknowledgement"
        for uid, number, *again in lines:
            old, new = contents(int(number))
            if policy == "keep":
                expected[uid] = [old]
            else:  # the last store may be done but not acknowledged
                expected[uid] = [new] if again else [old, new]
        with Archive.open(data, index_url=index_url) as archive:
            assert list(archive.files.pieces()) == []
            assert list(check(archive)) == []
            stored = {
                instance.sop_instance_uid: instance
                for instance in archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
            }
            assert expected.keys() <= stored.keys()
            for uid, *_ in lines:
                assert stored[uid].path.read_bytes()[-32768:] in expected[uid]
            unacknowledged += 3  # one per thread at most
            assert len(stored) <= len(expected) + unacknowledged
