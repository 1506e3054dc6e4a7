"""The usual transitions of the state machine, each in one step, as long as nobody watches it.

pynetdicom passes each PDU and primitive through two queues, a table and an action, and tells those
who are bound to EVT_FSM_TRANSITION. With the classes of its PDUs that was a sixth of the calls
that an association costs. Whatever is not usual takes pynetdicom's way: an event that is due, a
state that is another, somebody who watches.

The names of actions, events and states are those of PS3.8 tables 9-6 to 9-10.
"""

from __future__ import annotations

import logging
from typing import Final, cast

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE, P_DATA

from lfscp.upperlayer.connection.errors import ConnectionLostError
from lfscp.upperlayer.engine.state_machine import (
    AWAITING_ASSOCIATE_RQ,
    AWAITING_CLOSE,
    AWAITING_LOCAL_RESPONSE,
    ESTABLISHED,
    IDLE,
    LOST,
    RELEASE_ASKED,
    Primitive,
    StateProvider,
)
from lfscp.upperlayer.wire.associate_pdus import VERSION_1, AssociateRequest

LOGGER = logging.getLogger(__name__)

_CONNECTED: Final = "Evt5"
_ACCEPTED: Final = 0
_A_RELEASE_RP: Final = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # PS3.8 table 9-25


class UnwatchedProvider(StateProvider):
    """pynetdicom's DUL service provider; its usual transitions are made here."""

    def _is_usual(self, state: str) -> bool:
        """Whether it is in this state, nothing is due, and nobody watches; lock held."""
        return (
            self.state_machine.current_state == state
            and not self.is_watched
            and not self.event_queue.queue
            and not self.to_provider_queue.queue
            and not self._running_events
            and self.socket is not None
        )

    def start(self) -> None:
        """Mark the provider ready; process what the transport has already told (AE-5)."""
        with self.lock:
            due = self.event_queue.queue
            if len(due) == 1 and due[0] == _CONNECTED:
                due.clear()
                if self._is_usual(IDLE):
                    self.state_machine.current_state = AWAITING_ASSOCIATE_RQ
                else:
                    due.append(_CONNECTED)
        super().start()

    def indicate_association(self, request: AssociateRequest) -> bool:
        """Give an A-ASSOCIATE-RQ to the user (AE-6); False leaves it to the state machine."""
        with self.lock:
            if request.protocol_version != VERSION_1 or not self._is_usual(AWAITING_ASSOCIATE_RQ):
                return False
            self.to_user_queue.put(request.to_primitive())
            self.state_machine.current_state = AWAITING_LOCAL_RESPONSE
            return True

    def indicate_release(self) -> bool:
        """Give an A-RELEASE-RQ to the user (AR-2); False leaves it to the state machine."""
        with self.lock:
            if not self._is_usual(ESTABLISHED):
                return False
            self.to_user_queue.put(A_RELEASE())
            self.state_machine.current_state = RELEASE_ASKED
            return True

    def _give(self, primitive: Primitive | P_DATA) -> None:
        # Relied on: the primitives' `_result`, which `result` gives.
        is_acceptance = isinstance(primitive, A_ASSOCIATE) and primitive._result == _ACCEPTED
        if is_acceptance and self._is_usual(AWAITING_LOCAL_RESPONSE):
            self._answer(self._encoded_accept(cast(A_ASSOCIATE, primitive)), ESTABLISHED)  # AE-7
            return
        is_release = isinstance(primitive, A_RELEASE) and primitive._result is not None
        if is_release and self._is_usual(RELEASE_ASKED):
            self._answer(_A_RELEASE_RP, AWAITING_CLOSE)  # AR-4
            return
        super()._give(primitive)

    def _answer(self, pdu: bytes, next_state: str) -> None:
        """Send a PDU, and go on to the next state; lock held."""
        assert self.socket is not None  # noqa: S101 - asked by `_is_usual`
        try:
            self.socket.send_all([pdu])
        except ConnectionLostError:
            self.event_queue.put(LOST)
        self.state_machine.current_state = next_state
        if self.event_queue.queue:
            self.run_events()

    def connection_lost(self, reason: str) -> None:
        """The transport connection has closed (Evt17; AR-5 after the end of the association)."""
        with self.lock:
            sock = self.socket
            if sock is None or not sock._is_connected or not self._is_usual(AWAITING_CLOSE):
                super().connection_lost(reason)
                return
            LOGGER.debug("Connection closed: %s", reason)
            sock.shut()
            if evt.EVT_CONN_CLOSE in self.assoc._handlers:
                self._tell_of_close()
            self._kill_thread = True
            self.state_machine.current_state = IDLE

    def _tell_of_close(self) -> None:
        association = self.assoc
        peer = association.acceptor if association.is_requestor else association.requestor
        assert peer.address_info is not None  # noqa: S101 - it was connected
        evt.trigger(association, evt.EVT_CONN_CLOSE, {"address": peer.address_info.as_tuple})
