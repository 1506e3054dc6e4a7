"""Queries a DICOMweb server by QIDO-RS (PS3.18 section 10.6)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.peer import DICOMwebPeer


def find(
    peer: DICOMwebPeer,
    identifier: Dataset,
    model: str = "study",
    *,
    cancel: Flag = NEVER,
    max_bytes: int | None = None,
) -> Iterator[Dataset]:
    """Query a server; gives its matches as they come, with the keys that were asked for.

    Args:
        identifier: the keys, Query/Retrieve Level among them; PATIENT is answered by the studies.
        model: as for C-FIND; DICOMweb has only one, so it changes nothing.
        cancel: once set, no further match is given. Closing the iterator closes the connection.
        max_bytes: limit of all matches together, for callers that keep part of each.
    Raises:
        GivenUpError: it was cancelled before the first answer.
        PeerError: the server cannot be reached, refuses, or sends more than `max_bytes`.
    """
    raise NotImplementedError
