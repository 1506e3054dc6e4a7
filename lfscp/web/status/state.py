"""What the page shows of the node itself: plain data that the node's processes fill in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssociationState:
    """One association as it is now.

    Args:
        serial: its number in its process, the same as in the log.
        service: what it was opened for: "storage", "query", …
        thread: the pool thread that serves it.
        since: when it began, seconds since 1970.
    """

    serial: int
    calling_ae_title: str
    called_ae_title: str
    peer: str
    service: str = ""
    thread: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process of the node, with its pool.

    Args:
        pid: its process ID; 0 when nothing is known of it yet.
        leader: name of the leading thread; None when nobody leads.
        waiting: followers.
        running: the leader and the processors.
        max_running: cap on running; 0 is no limit.
        max_waiting: cap on followers; -1 is no limit.
        text: the pool in one line, as in the log.
        queued: connections that wait in the kernel where it listens, as do the others'.
        is_silent: whether it has not reported for long.
    """

    pid: int = 0
    leader: str | None = None
    waiting: int = 0
    running: int = 0
    max_running: int = 0
    max_waiting: int = -1
    is_shutdown: bool = False
    text: str = ""
    associations: tuple[AssociationState, ...] = ()
    queued: int = 0
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node as it is now.

    Args:
        backlog: connections that the kernel queues while nobody leads.
        max_associations: further ones are rejected, in each process; 0 is no limit.
        started_at: seconds since 1970.
    """

    ae_title: str
    host: str
    port: int
    backlog: int
    max_associations: int
    started_at: float
    processes: tuple[ProcessState, ...] = ()

    @property
    def is_shutdown(self) -> bool:
        """Whether no process takes connections any more."""
        return all(process.is_shutdown for process in self.processes)
