"""The associations that a server serves: which there are, their handlers, and how they abort."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association

from lfscp.server.draining import Silence, abort_all
from lfscp.upperlayer.engine.bindings import Bindings
from lfscp.upperlayer.scp.association import AcceptorAssociation


class ServedAssociations:
    """What pynetdicom's servers tell of their associations, and let others bind to them.

    Args:
        evt_handlers: pynetdicom's (event, handler) or (event, handler, arguments).
    """

    def __init__(self, evt_handlers: Iterable[evt.EventHandlerType]) -> None:
        self._bindings = Bindings(evt_handlers)
        # In the order of their beginning, as pynetdicom's server lists them.
        self._associations: dict[AcceptorAssociation, None] = {}
        self._lock = threading.Lock()

    @property
    def active_associations(self) -> list[Association]:
        """The associations that are being served."""
        return list[Association](self._served())

    def bind(
        self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None
    ) -> None:
        """Bind a handler to an event, for associations to come and those that run."""
        self._bindings.bind(event, handler, args)
        for association in self.active_associations:
            association.bind(event, handler, args)

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Unbind a handler, from the associations that run as well."""
        self._bindings.unbind(event, handler)
        for association in self.active_associations:
            association.unbind(event, handler)

    def get_events(self) -> list[evt.EventType]:
        """The events that have handlers, by name."""
        return self._bindings.events()

    def get_handlers(self, event: evt.EventType) -> evt.HandlerArgType:
        """The handlers bound to an event, as pynetdicom's servers give them."""
        return self._bindings.handlers(event)

    def _abort_silent(self, silence: Silence) -> None:
        hopeless = []
        for association in self._served():
            reason = silence.reason_to_abort(association)
            if reason is not None:
                association.end_reason = association.end_reason or reason
                hopeless.append(association)
        abort_all(hopeless)

    def abort_all(self) -> int:
        """Abort every association, without waiting for its end; how many."""
        associations = self._served()
        abort_all(associations)
        return len(associations)

    def _served(self) -> list[AcceptorAssociation]:
        with self._lock:
            return list(self._associations)
