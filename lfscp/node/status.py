"""How a node is now, as the page, `/metrics` and `/readyz` show it: taken from what runs."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from lfscp.services.service_log import association_fields
from lfscp.web.status.state import AssociationState, NodeState, ProcessState

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.server import LeaderFollowerServer

_SERVICES: Final = (  # by the beginning of an abstract syntax (PS3.4 annexes A, B, C)
    ("1.2.840.10008.5.1.4.1.1.", "storage"),
    ("1.2.840.10008.5.1.4.1.2.1.1", "query"),
    ("1.2.840.10008.5.1.4.1.2.2.1", "query"),
    ("1.2.840.10008.5.1.4.1.2.3.1", "query"),
    ("1.2.840.10008.5.1.4.1.2.", "retrieve"),
    ("1.2.840.10008.1.1", "verification"),
)


def node_state(
    settings: Settings,
    address: tuple[str, int],
    started_at: float,
    processes: tuple[ProcessState, ...],
) -> NodeState:
    """The node, of these processes."""
    server = settings.server
    return NodeState(
        ae_title=server.ae_title,
        host=address[0],
        port=address[1],
        backlog=server.backlog,
        max_associations=server.max_associations,
        started_at=started_at,
        processes=processes,
    )


def process_state(server: LeaderFollowerServer) -> ProcessState:
    """The pool and the associations of this process; from any thread."""
    state = server.pool.state()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return ProcessState(
        pid=os.getpid(),
        leader=state.leader,
        waiting=state.waiting,
        running=state.running,
        max_running=state.max_running,
        max_waiting=state.max_waiting,
        is_shutdown=state.is_shutdown,
        text=str(server.pool),
        associations=tuple(_association_state(each, names) for each in server.active_associations),
        queued=server.queued(),
    )


def _association_state(association: Any, names: dict[int | None, str]) -> AssociationState:
    fields = association_fields(association)
    contexts = [str(context.abstract_syntax) for context in association.accepted_contexts]
    found = [_service(uid) for uid in contexts]
    return AssociationState(
        serial=association.serial,
        calling_ae_title=str(fields["calling_ae_title"]),
        called_ae_title=str(fields["called_ae_title"]),
        peer=str(fields["peer"]),
        service=", ".join(dict.fromkeys(filter(None, found))),
        thread=names.get(association.record.reader, ""),
        since=round(time.time() - (time.monotonic() - association.started_at), 1),
    )


def _service(abstract_syntax: str) -> str:
    known = (name for start, name in _SERVICES if abstract_syntax.startswith(start))
    return next(known, "")
