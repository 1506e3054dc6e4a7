"""What the page shows of the node itself: plain data that the node fills in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssociationState:
    """One association as it is now.

    Args:
        serial: its number in this process, the same as in the log.
        thread: the pool thread that serves it.
        service: what it did last, "C-STORE"; "" before its first message.
        since_s: how long it has been there, in seconds.
    """

    serial: int
    calling_ae_title: str
    called_ae_title: str
    peer: str
    service: str = ""
    thread: str = ""
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node as it is now.

    Args:
        leader: name of the leading thread; None when nobody leads.
        waiting: followers.
        running: the leader and the processors.
        max_running: cap on running; 0 is no limit.
        max_waiting: cap on followers; -1 is no limit.
        backlog: connections that the kernel queues while nobody leads.
        max_associations: further ones are rejected; 0 is no limit.
        text: the pool in one line, as in the log.
        uptime_s: how long the node has been running, in seconds.
    """

    ae_title: str
    host: str
    port: int
    leader: str | None
    waiting: int
    running: int
    max_running: int
    max_waiting: int
    is_shutdown: bool
    backlog: int
    max_associations: int
    text: str
    uptime_s: float
    associations: tuple[AssociationState, ...] = ()

    @property
    def processors(self) -> int:
        """Threads that serve an association now."""
        return max(0, self.running - (1 if self.leader else 0))
