"""A served archive, a destination for its objects, and objects to store, for the e2e tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode

from lfscp.archive.archive import Archive, Received
from lfscp.config import Settings
from lfscp.server import LeaderFollowerServer
from lfscp.services.contexts import contexts, storage_classes
from lfscp.services.handlers import all_handlers
from lfscp.upperlayer.connection.limits import ReceiveLimits

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@dataclass
class Node:
    """A listening server over an archive."""

    archive: Archive
    port: int

    def store(self, dataset: Dataset) -> bytes:
        """Put an object into the archive and give the bytes of its dataset."""
        syntax = dataset.file_meta.TransferSyntaxUID
        data = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        assert data is not None
        self.archive.store(
            Received(
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                transfer_syntax_uid=str(syntax),
                dataset=memoryview(data),
            )
        )
        return data


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Node]:
    """A server on a free port over a new archive in `folder`."""
    chosen = Settings.model_validate({"data_dir": folder, "durability": "os", **settings})
    index_url = chosen.index.url or None
    with Archive.open(folder, durability="os", index_url=index_url) as archive:
        ae = AE(chosen.server.ae_title)
        server = LeaderFollowerServer(
            ae,
            ("127.0.0.1", 0),
            evt_handlers=all_handlers(archive, chosen),
            contexts=contexts(chosen),
            spool_dir=archive.incoming_dir,
            accept_unknown_storage=chosen.storage.accept_unknown_sop_classes,
            storage_classes=storage_classes(chosen),
            receive_limits=ReceiveLimits(
                max_workflow_bytes=chosen.budgets.workflow_mb * 1_000_000,
            ),
        )
        server.start()
        try:
            yield Node(archive, server.server_address[1])
        finally:
            server.shutdown()
            assert server.drain(10)


def image(
    *, study: str, series: str, sop_class: str = CT, syntax: str = EXPLICIT, **attributes: Any
) -> Dataset:
    """A small object; `attributes` by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.PatientID = "P1"
    dataset.PatientName = "Doe^Jane"
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = 16, 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(range(256)) * 2
    dataset["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def compressed(dataset: Dataset, syntax: str) -> Dataset:
    """The same object, its pixel data compressed."""
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


@dataclass
class Destination:
    """A storage SCP of pynetdicom's that keeps what it gets."""

    port: int = 0
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    originators: set[tuple[str | None, int | None]] = field(default_factory=set)
    associations: int = 0
    proposed: list[list[Any]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def keep(self, event: evt.Event) -> int:
        """Keep one object: its transfer syntax and the bytes of its dataset."""
        request: Any = event.request
        uid = str(request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        self.objects[uid] = (syntax, event.encoded_dataset(include_meta=False))
        title = request.MoveOriginatorApplicationEntityTitle
        self.originators.add((title, request.MoveOriginatorMessageID))
        return 0x0000

    def note(self, event: evt.Event) -> None:
        """Count an association and keep what it proposed."""
        self.associations += 1
        self.proposed.append(list(event.assoc.requestor.requested_contexts))


@contextmanager
def destination(
    supported: list[tuple[str, list[str]]],
    answer: Callable[[Destination, evt.Event], int] = Destination.keep,
) -> Iterator[Destination]:
    """A destination that supports (SOP class, transfer syntaxes) and answers with `answer`."""
    there = Destination()

    def handle_store(event: evt.Event) -> int:
        there.asked.set()
        return answer(there, event)

    ae = AE("DEST")
    ae.require_called_aet = True
    for sop_class, syntaxes in supported:
        ae.add_supported_context(sop_class, syntaxes)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, handle_store), (evt.EVT_ACCEPTED, there.note)],
    )
    there.port = server.server_address[1]
    try:
        yield there
    finally:
        ae.shutdown()
