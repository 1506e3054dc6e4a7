"""The event handlers bound to a server, and through it to its associations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

from pynetdicom import _config, evt
from pynetdicom._handlers import (
    standard_dimse_recv_handler,
    standard_dimse_sent_handler,
    standard_pdu_recv_handler,
    standard_pdu_sent_handler,
)

# pynetdicom's log of every PDU and message.
_STANDARD_LOG = (
    (evt.EVT_DIMSE_RECV, standard_dimse_recv_handler),
    (evt.EVT_DIMSE_SENT, standard_dimse_sent_handler),
    (evt.EVT_PDU_RECV, standard_pdu_recv_handler),
    (evt.EVT_PDU_SENT, standard_pdu_sent_handler),
)


def log_is_read() -> bool:
    """Whether pynetdicom's log of PDUs and messages would be written anywhere.

    Bound for nothing, it would keep every message on the path that events can watch.
    """
    return _config.LOG_HANDLER_LEVEL == "standard" and logging.getLogger("pynetdicom").isEnabledFor(
        logging.INFO
    )


class Bindings:
    """Handlers by event, in pynetdicom's own form.

    Relied on: `evt._add_handler` and `evt._remove_handler` keep such a table (one handler for an
    intervention event, a list for a notification event), and `Association._handlers` is one.

    Args:
        handlers: (event, handler) or (event, handler, arguments).
    """

    def __init__(self, handlers: Iterable[evt.EventHandlerType]) -> None:
        self._table: dict[evt.EventType, Any] = {}
        self._lists: list[evt.EventType] = []  # those of notification
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))
        if log_is_read():
            for notification, handler in _STANDARD_LOG:
                self.bind(notification, handler)
        for bound in handlers:
            self.bind(*bound)

    def bind(
        self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None
    ) -> None:
        """Bind a handler to an event."""
        evt._add_handler(event, self._table, (handler, args))
        self._lists = [event for event, bound in self._table.items() if isinstance(bound, list)]

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Unbind it; an intervention event gets its default handler back."""
        evt._remove_handler(event, self._table, handler)

    def events(self) -> list[evt.EventType]:
        """The events that have handlers, by name."""
        return sorted(self._table, key=lambda event: event.name)

    def handlers(self, event: evt.EventType) -> evt.HandlerArgType:
        """The handlers of one event, as `AssociationServer.get_handlers` gives them."""
        return cast(evt.HandlerArgType, self._table.get(event, []))

    def copy(self) -> dict[evt.EventType, Any]:
        """The table, for an association to own."""
        copied = self._table.copy()
        for event in self._lists:
            if event in copied:  # else unbound since
                copied[event] = copied[event].copy()
        return copied
