"""Turns a C-STORE request into an object for the archive: for SCPs and C-GET requestors."""

from __future__ import annotations

from typing import Any

from pynetdicom import evt

from lfscp.archive.store.received_objects import Received
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import Header
from lfscp.services.called import called_ae_title
from lfscp.upperlayer.receiving.received import ReceivedStore


def received_object(event: evt.Event, caller: str) -> Received:
    """The object of a C-STORE request, for the archive; valid while the handler runs.

    Args:
        caller: AE title to note as the sender.
    Raises:
        DatasetError: it has no dataset.
    """
    request: Any = event.request
    spooled = header = None
    dataset: memoryview | None = None
    if isinstance(request, ReceivedStore):
        dataset, spooled = request.dataset, request.spooled
        header = request.examined if isinstance(request.examined, Header) else None
    elif request.DataSet is not None:  # served by pynetdicom's own server
        dataset = request.DataSet.getbuffer()
    if dataset is None and spooled is None:
        raise DatasetError("the request has no dataset")
    is_ours = bool(event.assoc.is_requestor)  # a C-GET: the objects come from the acceptor
    sender = event.assoc.acceptor if is_ours else event.assoc.requestor
    return Received(
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        calling_ae_title=caller,
        dataset=dataset,
        spooled_path=spooled.name if spooled else None,
        dataset_offset=spooled.dataset_offset if spooled else 0,
        spooled_descriptor=spooled.descriptor if spooled else -1,
        header=header,
        called_ae_title="" if is_ours else called_ae_title(event.assoc),
        address=str(sender.address or ""),
    )
