"""pynetdicom as a client that sends and gets datasets exactly as they are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from tests.support.dicom_peer import until
from tests.support.pynetdicom_reactor import well_paused

RELEASE_S = 10
FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
Contents = dict[str, tuple[str, bytes]]  # by UID: transfer syntax and bytes of the dataset


@contextmanager
def association(
    port: int, offered: Iterable[tuple[str, str]], sender: str = "PYNETDICOM", **options: Any
) -> Iterator[Association]:
    """An association that offers each (abstract, transfer syntax) in its own context."""
    ae = AE(sender)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    contexts = [build_context(abstract, transfer) for abstract, transfer in offered]
    assoc = ae.associate("127.0.0.1", port, contexts=contexts, **options)
    try:
        yield well_paused(assoc)
    finally:
        if assoc.is_established:
            # pynetdicom's thread may take an abort off the queue that `release` waits for.
            assoc.acse_timeout = RELEASE_S
            assoc.release()
        close(assoc)


def close(assoc: Association) -> None:
    """Close the connection: pynetdicom leaves it open when the peer is gone."""
    assoc.kill()
    assoc.join(10)
    connection = assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.close()


def store_one(assoc: Association, file: Path) -> int | None:
    """Store a file as it is: the status; without an answer None, and the association has ended.

    A thread of pynetdicom takes the abort off a queue, and so does its `release`: if the thread is
    first, `release` waits for an answer as long as it may. So wait here until the thread is done.
    """
    status: int | None = assoc.send_c_store(file).get("Status")
    if status is None:
        assert until(lambda: not assoc.is_established)
    return status


def store(port: int, *files: Path) -> list[int | None]:
    """Store files as they are: the status of each, None without an answer."""
    metas = [dcmread(file, stop_before_pixels=True).file_meta for file in files]
    offered = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    with association(port, offered) as assoc:
        assert assoc.is_established
        return [store_one(assoc, file) if assoc.is_established else None for file in files]


def get(
    port: int,
    keys: dict[str, Any],
    level: str,
    offered: Iterable[tuple[str, str]],
    **options: Any,
) -> tuple[int, Contents]:
    """C-GET in Study Root, each SOP class in each transfer syntax offered: status and objects."""
    got: Contents = {}

    def keep(event: evt.Event) -> int:
        data = event.encoded_dataset(include_meta=False)
        got[event.request.AffectedSOPInstanceUID] = (str(event.context.transfer_syntax), data)
        return 0x0000

    pairs = list(offered)
    roles = [build_role(uid, scp_role=True) for uid in sorted({uid for uid, _ in pairs})]
    handlers = [(evt.EVT_C_STORE, keep)]
    explicit = "1.2.840.10008.1.2.1"
    contexts = [(GET, explicit), *pairs]
    options |= {"ext_neg": roles, "evt_handlers": handlers}
    with association(port, contexts, **options) as assoc:
        assert assoc.is_established
        responses = list(assoc.send_c_get(identifier(level, keys), GET))
    return responses[-1][0].Status, got


def find(port: int, keys: dict[str, Any], level: str) -> list[Dataset]:
    """C-FIND in Study Root: the identifiers."""
    with association(port, [(FIND, "1.2.840.10008.1.2.1")]) as assoc:
        assert assoc.is_established
        answers = list(assoc.send_c_find(identifier(level, keys), FIND))
    assert answers[-1][0].Status == 0x0000
    return [found for status, found in answers if found is not None]


def identifier(level: str, keys: dict[str, Any]) -> Dataset:
    """An identifier with these keys."""
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked
