"""A route as it is used: its condition, its actions, and the destinations of an object."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from lfscp.archive.index.route_items import RouteItem
from lfscp.archive.index.tables.route_tables import HELD, WAITING
from lfscp.config.routes import RouteSettings
from lfscp.routing.actions.action import Action, ReadyAction
from lfscp.rules.conditions.condition import Condition

_FORM_LENGTH: Final = 16  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Args:
        actions: what is done to each object before it is sent; a conversion to
            `transfer_syntax_uid` is among them, unless associations do it while they send.
        transfer_syntax_uid: in which it is sent; empty for the stored one.
        ready: the actions, where they are to be done.
        form: tells what goes to a destination, and when: routes of one form send the same.
    """

    settings: RouteSettings
    condition: Condition
    actions: tuple[Action, ...]
    transfer_syntax_uid: str
    form: str
    ready: tuple[ReadyAction, ...] = ()

    @property
    def name(self) -> str:
        """The name, as queues and log lines have it."""
        return self.settings.name

    def destinations(self, origin: str, study_uid: str) -> tuple[str, ...]:
        """The peers that get an object; of a fail-over list the first one, whose queue it is.

        Args:
            origin: AE title of its sender, to which it does not go back.
            study_uid: the objects of a study go the same way.
        """
        peers = [peer for peer in self.settings.send_to if peer != origin]
        if self.settings.mode == "failover":
            return tuple(peers[:1])
        if self.settings.mode == "share":
            return tuple(sorted(peers, key=lambda peer: _lot(study_uid, peer)))[
                : self.settings.copies
            ]
        return tuple(peers)

    def alternatives(self, destination: str) -> tuple[str, ...]:
        """The peers that a queue may be sent to, in the order in which they are tried."""
        if self.settings.mode != "failover":
            return (destination,)
        return (destination, *(peer for peer in self.settings.send_to if peer != destination))

    @property
    def queues(self) -> tuple[str, ...]:
        """The peers that may have a queue; of a fail-over list, each that was ever first in it."""
        return self.settings.send_to

    def items(self, origin: str, study_uid: str) -> tuple[RouteItem, ...]:
        """The rows of an object that goes this way."""
        state = WAITING if self.settings.on == "instance" else HELD
        return tuple(
            RouteItem(self.name, peer, self.form, origin, state, self.settings.priority)
            for peer in self.destinations(origin, study_uid)
        )


def form_of(settings: RouteSettings, transfer_syntax_uid: str) -> str:
    """What tells routes apart that send an object to the same destination."""
    said = [
        settings.on,
        settings.quiet_s if settings.on != "instance" else 0,
        list(settings.actions),
        transfer_syntax_uid,
        settings.commit,
    ]
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_FORM_LENGTH]


def _lot(study_uid: str, peer: str) -> bytes:
    """A number for a study and a peer, the same on all nodes; the lowest ones are chosen."""
    return hashlib.sha256(f"{study_uid}\0{peer}".encode()).digest()
