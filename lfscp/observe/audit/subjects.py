"""Whom and what an event is about: peers, and the instances that were transferred."""

from __future__ import annotations

from dataclasses import dataclass

from lfscp.observe.audit import message as m


@dataclass(frozen=True, slots=True)
class AuditedPeer:
    """Another application entity."""

    ae_title: str
    address: str


@dataclass(slots=True)
class Transfer:
    """Instances of one study that were transferred.

    Args:
        instances: how many of each SOP class, by UID.
        size: bytes of their datasets.
        failed: how many were not.
    """

    instances: dict[str, int]
    size: int = 0
    failed: int = 0

    def count(self, sop_class_uid: str, size: int) -> None:
        """Note one instance more."""
        self.instances[sop_class_uid] = self.instances.get(sop_class_uid, 0) + 1
        self.size += size

    def add(self, other: Transfer) -> None:
        """Note what another one has."""
        for uid, number in other.instances.items():
            self.instances[uid] = self.instances.get(uid, 0) + number
        self.size += other.size
        self.failed += other.failed


def as_requestor(peer: AuditedPeer) -> m.Participant:
    """A peer as the participant that asked."""
    return m.Participant(peer.ae_title, peer.address, is_requestor=True)
