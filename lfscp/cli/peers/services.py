"""Asks a node by DIMSE or by DICOMweb, whichever it speaks.

Imports happen inside: a command needs one of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from lfscp.archive.store.received_objects import Received, StoredInstance
    from lfscp.cli.peers.query import PeerQuery
    from lfscp.scu.connection import Flag
    from lfscp.scu.dicomweb.peer import DICOMwebPeer
    from lfscp.scu.echo import EchoResult
    from lfscp.scu.parts import RetrieveProgress, RetrieveResult
    from lfscp.scu.peer import Peer
    from lfscp.scu.send import OnSent, SendResult


def echo(asked: Peer | DICOMwebPeer, cancel: Flag) -> EchoResult:
    """Whether it answers: by C-ECHO, or by a search."""
    from lfscp.scu.dicomweb.peer import DICOMwebPeer

    if isinstance(asked, DICOMwebPeer):
        from lfscp.scu.dicomweb.echo import echo as search

        return search(asked, cancel=cancel)
    from lfscp.scu.echo import echo

    return echo(asked, cancel=cancel)


def find(asked: Peer | DICOMwebPeer, query: PeerQuery, cancel: Flag) -> Iterator[Dataset]:
    """The matches of a query: by C-FIND, or by QIDO-RS."""
    from lfscp.scu.dicomweb.peer import DICOMwebPeer

    if isinstance(asked, DICOMwebPeer):
        from lfscp.scu.dicomweb.find import find as search

        return search(asked, query.identifier, query.model, cancel=cancel)
    from lfscp.scu.find import find

    return find(asked, query.identifier, query.model, cancel=cancel)


def get(
    asked: Peer | DICOMwebPeer,
    query: PeerQuery,
    on_object: Callable[[Received], int | Dataset],
    on_refused: Callable[[str, str], None],
    follow: Callable[[RetrieveProgress], None],
    cancel: Flag,
    spool_dir: Path,
) -> RetrieveResult:
    """Retrieve objects: by C-GET, or by WADO-RS."""
    options: dict[str, Any] = {
        "on_object": on_object,
        "on_refused": on_refused,
        "model": query.model,
        "progress": follow,
        "cancel": cancel,
        "spool_dir": spool_dir,
    }
    from lfscp.scu.dicomweb.peer import DICOMwebPeer

    if isinstance(asked, DICOMwebPeer):
        from lfscp.scu.dicomweb.retrieve import get as retrieve

        return retrieve(asked, query.identifier, **options)
    from lfscp.scu.retrieve import get

    sop_classes = _sop_classes(asked, query, cancel)
    return get(asked, query.identifier, sop_classes=sop_classes, **options)


def _sop_classes(asked: Peer, query: PeerQuery, cancel: Flag) -> list[str]:
    """The SOP classes that will come; if known, objects come as they are stored."""
    from lfscp.scu.errors import GivenUpError, PeerError
    from lfscp.scu.sop_classes import sop_classes_of

    try:
        return sop_classes_of(asked, query.keys, query.model, cancel)
    except GivenUpError:
        raise
    except PeerError:
        return []  # if something is wrong, the C-GET will say so


def send(
    asked: Peer | DICOMwebPeer,
    instances: Sequence[StoredInstance],
    on_sent: OnSent,
    cancel: Flag,
) -> SendResult:
    """Send objects: by C-STORE, or by STOW-RS."""
    from lfscp.scu.dicomweb.peer import DICOMwebPeer

    if isinstance(asked, DICOMwebPeer):
        from lfscp.scu.dicomweb.send import send as store

        return store(asked, instances, on_sent=on_sent, cancel=cancel)
    from lfscp.scu.send import send

    return send(asked, instances, on_sent=on_sent, cancel=cancel)
