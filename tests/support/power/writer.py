"""Stores, replaces and deletes objects until a time is over, and says what it does and has done.

    python -m tests.support.power.writer [OPTION]... DATA_FOLDER SAID

Several threads write to one archive, or send to a node. At the end nothing is closed: a power cut
comes without notice.
"""

from __future__ import annotations

import argparse
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

from lfscp.archive import late_sync
from lfscp.archive.archive import Archive
from lfscp.archive.index.database import sqlite
from lfscp.archive.store.files import ObjectFiles
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received
from tests.support.dicom_peer import DATA, LAST, Peer, message, p_data, pdv, store_rq
from tests.support.node_process import NodeProcess
from tests.support.power.promises import GONE, steps_of, uid_of, values_of

THREADS: Final = 3
_FRAGMENT: Final = 16_000  # bytes of a dataset in one PDU; any node takes them
_OBJECTS_EACH: Final = 10_000  # more than any thread gets to

Step = Callable[[int, str], bool]  # does a step of an object; False when it cannot do such a one


def write(step: Step, said: int, first: int, until: float) -> None:
    """Do all steps of one object after another, until a time of the monotonic clock."""
    for number in count(first):
        for what in steps_of(number):
            os.write(said, f"begun {number} {what}\n".encode())
            if step(number, what):
                os.write(said, f"done {number} {what}\n".encode())
            if time.monotonic() > until:
                return


def into_archive(archive: Archive) -> Step:
    """Steps in an archive of this process."""

    def step(number: int, what: str) -> bool:
        if what == GONE:
            archive.delete(Level.IMAGE, uid_of(number))
        else:
            archive.store(received(number, **values_of(number, what)))
        return True

    return step


def to_node(port: int) -> Step:
    """Steps by C-STORE on an association of their own; nobody deletes."""
    peer = Peer(("127.0.0.1", port), timeout=60)
    peer.associate([(1, CT_IMAGE, (EXPLICIT,))], max_length=0)

    def step(number: int, what: str) -> bool:
        if what == GONE:
            return False
        dataset = encoded(number, **values_of(number, what))
        peer.send(message(1, store_rq(number % 65_536, uid_of(number), CT_IMAGE)))
        for at in range(0, len(dataset), _FRAGMENT):
            control = DATA | (LAST if at + _FRAGMENT >= len(dataset) else 0)
            peer.send(p_data(pdv(1, control, dataset[at : at + _FRAGMENT])))
        return peer.status() == 0

    return step


def leave_out(what: str) -> None:
    """Have this process sync no files or no folders: a trial must notice."""

    def fsync(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder != (what == "folder"):
            really(descriptor)

    os.fsync = fsync
    if what == "file":
        os.fdatasync = lambda _: None


def leave_out_late_sync() -> None:
    """Have the index give up the bytes of small objects though their files are not synced."""
    late_sync.sync_file_system = lambda _: None
    ObjectFiles.require_journal = lambda _: None  # type: ignore[method-assign]


def set_up_index(pages: int, *, sync: bool) -> None:
    """Have SQLite move its log into the index after so few pages, as it does after hours of use."""

    def engine(*arguments: Any, make: Callable[..., Engine] = sqlite._engine) -> Engine:
        made = make(*arguments)

        @event.listens_for(made, "connect")
        def set_pragmas(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            if not sync:
                connection.execute("PRAGMA synchronous = OFF")

        return made

    sqlite._engine = engine


def write_all(new_step: Callable[[], Step], said: Path, seconds: float) -> None:
    """Write in several threads."""
    descriptor, until = os.open(said, os.O_WRONLY | os.O_APPEND), time.monotonic() + seconds
    with ThreadPoolExecutor(THREADS) as pool:
        writing = [
            pool.submit(write, new_step(), descriptor, _OBJECTS_EACH * at, until)
            for at in range(THREADS)
        ]
    for each in writing:
        each.result()


def main() -> None:
    """Write as the arguments say."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--durability", default="full")
    options.add_argument("--without", choices=["file", "folder", "index", "late"])
    options.add_argument("--checkpoint", type=int, default=40, metavar="PAGES")
    options.add_argument("--node", type=Path, help="send to a node, with this for its settings")
    options.add_argument("data", type=Path)
    options.add_argument("said", type=Path)
    chosen = options.parse_args()
    if chosen.node:
        _write_to_node(chosen)
    else:
        _write_to_archive(chosen)
    os._exit(0)


def _write_to_archive(chosen: argparse.Namespace) -> None:
    set_up_index(chosen.checkpoint, sync=chosen.without != "index")
    if chosen.without in ("file", "folder"):
        leave_out(chosen.without)
    if chosen.without == "late":
        leave_out_late_sync()
    archive = Archive.open(chosen.data, duplicates="replace", durability=chosen.durability)
    write_all(lambda: into_archive(archive), chosen.said, chosen.seconds)


def _write_to_node(chosen: argparse.Namespace) -> None:
    settings = f'duplicates = "replace"\ndurability = "{chosen.durability}"\n'
    node = NodeProcess(chosen.node, configuration=settings)
    node.data_dir = chosen.data
    try:
        node.start()
        write_all(lambda: to_node(node.port), chosen.said, chosen.seconds)
    finally:
        with suppress(AssertionError):  # it did not end by itself, and is not to
            node.kill()


if __name__ == "__main__":
    main()
