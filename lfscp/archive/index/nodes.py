"""Registers the nodes that share an index, and refuses settings that do not go together.

Rules: a node registers before it serves, and again every few seconds by the database's clock. A
node that was silent for a while does not count. Nodes of one AE title stand for each other behind a
load balancer, so they must have the same settings. All nodes find their objects in the same place.
"""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.index.tables.job_tables import node

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

SEEN_EVERY_S: Final = 10.0
GONE_AFTER_MS: Final = 30_000
_FORGOTTEN_AFTER_MS: Final = 7 * 24 * 3600 * 1000
_PROCESS: Final = "process"
_OF_ALL: Final = ("objects.url",)  # settings in which nodes of any AE title have to agree


class Membership:
    """One node's place among those that share its index; of an index of its own it has none.

    Args:
        index: of the archive.
        identity: see node_id.node_id.
        ae_title: of the node.
        configuration: the settings in which nodes have to agree, by name.
    """

    def __init__(
        self, index: Index, identity: str, ae_title: str, configuration: Mapping[str, str]
    ) -> None:
        self._index = index
        self._row = {
            "id": identity,
            "ae_title": ae_title,
            "host": socket.gethostname(),
            # With this process, so that it does not sign off the one that has followed on.
            "configuration": json.dumps({**configuration, _PROCESS: uuid.uuid4().hex}),
        }
        self._configuration = configuration
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self) -> None:
        """Say that this node is there.

        Raises:
            ArchiveError: its settings do not go together with those of a node that runs.
        """
        if not self._index.is_shared:
            return
        try:
            self._index.transact(self._join)
        except SQLAlchemyError as error:
            raise self._index.cannot("join the nodes of the index", error) from None

    def _join(self, connection: Connection) -> None:
        connection.exec_driver_sql("LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE")  # one at a time
        for other in connection.execute(
            select(node).where(
                node.c.id != self._row["id"], node.c.seen_at > now_ms() - GONE_AFTER_MS
            )
        ).mappings():
            self._require_agreement(other)
        connection.execute(delete(node).where(node.c.seen_at < now_ms() - _FORGOTTEN_AFTER_MS))
        connection.execute(delete(node).where(node.c.id == self._row["id"]))
        connection.execute(insert(node).values(**self._row, seen_at=now_ms()))

    def _require_agreement(self, other: Any) -> None:
        theirs = json.loads(other["configuration"])
        same_title = other["ae_title"] == self._row["ae_title"]
        for name, value in self._configuration.items():
            if theirs.get(name, value) == value or not (same_title or name in _OF_ALL):
                continue
            hint = "give both the same"
            if name not in _OF_ALL:
                hint += ", or this one another AE title"
            raise ArchiveError(
                "join the nodes of the index",
                f"{name} is {value} here and {theirs[name]} on the node {other['ae_title']} "
                f"of {other['host']}",
                hint,
            )

    def start(self) -> None:
        """Go on saying so, in a thread of its own; in a process that forks no more."""
        if self._index.is_shared and self._thread is None:
            self._thread = threading.Thread(target=self._stay, name="lfscp-node", daemon=True)
            self._thread.start()

    def _stay(self) -> None:
        while not self._left.wait(SEEN_EVERY_S):
            self._say(seen_at=now_ms())

    def _say(self, **values: Any) -> None:
        this = node.c.configuration == self._row["configuration"]
        try:
            with self._index.writing() as connection:
                connection.execute(update(node).where(this).values(values))
        except SQLAlchemyError:
            pass  # the index is away: stores and queries log it, and the next time may go well

    def stop(self) -> None:
        """Say no more."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()

    def leave(self) -> None:
        """Say that this node is gone, so that another configuration may follow at once."""
        if self._index.is_shared:
            self._say(seen_at=0)


def nodes(connection: Connection) -> list[dict[str, Any]]:
    """The nodes that run now, by AE title: `id`, `ae_title`, `host`."""
    present = node.c.seen_at > now_ms() - GONE_AFTER_MS
    wanted = select(node.c.id, node.c.ae_title, node.c.host).where(present)
    ordered = wanted.order_by(node.c.ae_title, node.c.host)
    return [dict(row) for row in connection.execute(ordered).mappings()]
