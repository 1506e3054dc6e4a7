"""Shows plug-ins an object that has come in, and lets them read it before it is stored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lfscp.dicom.part10.file_meta import part10_header
from lfscp.plugins.events import Arrival
from lfscp.plugins.node import as_file

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import Received
    from lfscp.dicom.reading.header import Header


def arrival_of(received: Received, header: Header) -> Arrival:
    """A received object as plug-ins see it."""
    return Arrival(
        header.sop_class_uid,
        header.sop_instance_uid,
        header.study_instance_uid,
        header.series_instance_uid,
        received.transfer_syntax_uid,
        received.calling_ae_title,
        partial(_open_received, received, header),
    )


def _open_received(received: Received, header: Header) -> Any:
    """A received object as a DICOM file."""
    if received.spooled_path is not None:
        return open(received.spooled_path, "rb")
    head = part10_header(
        header.sop_class_uid,
        header.sop_instance_uid,
        received.transfer_syntax_uid,
        received.calling_ae_title,
    )
    return as_file(head, received.dataset or b"")
