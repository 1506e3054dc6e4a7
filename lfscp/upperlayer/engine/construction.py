"""Makes pynetdicom's parts of an association, without what an association in one thread never uses.

pynetdicom's constructors make threads that are never started, queues and events with locks, and a
provider that is replaced at once; and they check the same UIDs and titles for each association. It
was more than half of what it costs to accept one. The attributes here are theirs, all of them, with
the same values, which a test holds this to.

Relied on: the attributes that pynetdicom 3.0's `Association`, `DULServiceProvider`,
`DIMSEServiceProvider` and `ServiceUser` set, and their classes for the rest.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import _config
from pynetdicom._globals import DEFAULT_MAX_LENGTH, MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import (
    _UI,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation

from lfscp.upperlayer.connection.waiting import LazyEvent, LazyQueue

if TYPE_CHECKING:
    from pydicom.uid import UID
    from pynetdicom.ae import ApplicationEntity

_TEMPORARY_S = 30  # of timers that get their times later


class NoThread:
    """In the place of `threading.Thread`, for what is one in pynetdicom and is never started.

    Attributes:
        name: for the log.
        ident, native_id: None, as of each thread before its start.
    """

    name: str = ""
    daemon: bool = True
    ident: int | None = None
    native_id: int | None = None

    def start(self) -> None:
        """Fail: whoever serves it calls it.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("it is served by the thread that calls it, and has none of its own")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def prepare_association(association: Association, ae: ApplicationEntity, mode: str) -> None:
    """Set what `Association` sets, but for `dul` and `dimse` and what depends on them."""
    bare: Any = association
    bare._ae = ae
    bare._mode = mode
    bare._server = None
    class_uid = ae.implementation_class_uid
    bare.requestor = _service_user(association, MODE_REQUESTOR, class_uid)
    bare.acceptor = _service_user(association, MODE_ACCEPTOR, class_uid)
    bare.is_established = bare.is_rejected = bare.is_aborted = bare.is_released = False
    bare._sent_abort = bare._sent_release = False
    bare._accepted_cx = {}
    bare._rejected_cx = []
    bare.acse = ACSE(association)
    bare._acse_timeout = ae.acse_timeout
    bare.connection_timeout = ae.connection_timeout
    bare._dimse_timeout = ae.dimse_timeout
    bare.network_timeout_response = "A-ABORT"
    bare._handlers = {}
    bare._kill = bare._started_dul = bare._is_paused = False
    bare._dul_ready = LazyEvent()
    bare._reactor_checkpoint = LazyEvent()
    bare._reactor_checkpoint.set()
    bare._timer_resolution = _config.WINDOWS_TIMER_RESOLUTION


def prepare_provider(provider: DULServiceProvider, association: Association) -> None:
    """Set what `DULServiceProvider` sets, but for its state machine."""
    bare: Any = provider
    bare._assoc = association
    bare.socket = None
    bare.event_queue = LazyQueue()
    bare.to_provider_queue = LazyQueue()
    bare.to_user_queue = LazyQueue()
    bare._recv_pdu = LazyQueue()
    bare._idle_timer = Timer(_TEMPORARY_S)
    bare.artim_timer = Timer(_TEMPORARY_S)
    bare._run_loop_delay = 0.001
    bare._kill_thread = False


def _service_user(association: Association, mode: str, class_uid: UID) -> ServiceUser:
    """One side of an association, before its negotiation."""
    user = ServiceUser.__new__(ServiceUser)
    user.assoc = association
    user._mode = mode
    user._ae_title = ""
    user.primitive = None
    user.address_info = None
    user._contexts = []
    user._user_info = user_information(DEFAULT_MAX_LENGTH, class_uid, None)
    user._ext_neg = {
        SCP_SCU_RoleSelectionNegotiation: [],
        AsynchronousOperationsWindowNegotiation: [],
        UserIdentityNegotiation: [],
        SOPClassExtendedNegotiation: [],
    }
    if mode == MODE_REQUESTOR:
        user._ext_neg[SOPClassCommonExtendedNegotiation] = []
    user._common_ext = {}
    return user


class _Ended:
    """An association that has ended, as its two sides hold it.

    Whoever keeps a side alone still learns all that it says: its contexts depend on the mode of the
    association, which may be gone.
    """

    def __init__(self, association: Association) -> None:
        self.mode = association.mode
        self.is_requestor = association.is_requestor
        self.is_acceptor = association.is_acceptor
        self._association = weakref.proxy(association)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._association, name)


def loosen(association: Association) -> None:
    """Have the parts of an association that has ended hold it weakly.

    So it is gone with whoever holds it last, and its memory is there for the next one. With its
    parts pointing at it, it would wait for the garbage collector.
    """
    bare, provider = cast(Any, association), cast(Any, association.dul)
    weak = weakref.proxy(association)
    ended = _Ended(association)
    for side in (bare.requestor, bare.acceptor):
        side.assoc = ended
    for part in (bare.acse, provider, provider.socket, bare.dimse):
        part._assoc = weak
    provider.state_machine.dul = weakref.proxy(provider)
    # Relied on: `evt.trigger` leaves a bound method in the place of the class's own.
    bare.__dict__.pop("abort", None)


def user_information(maximum_length: int, class_uid: UID, version_name: str | None) -> list[_UI]:
    """What every side says of itself; all of it checked before."""
    length = MaximumLengthNotification.__new__(MaximumLengthNotification)
    length._maximum_length = maximum_length
    uid = ImplementationClassUIDNotification.__new__(ImplementationClassUIDNotification)
    uid._implementation_class_uid = class_uid
    if version_name is None:
        return [length, uid]
    name = ImplementationVersionNameNotification.__new__(ImplementationVersionNameNotification)
    name._implementation_version_name = version_name
    return [length, uid, name]


def address_of(peer: tuple[str, int] | tuple[str, int, int, int]) -> AddressInformation:
    """The address of a connected peer, as its socket gives it: nothing is looked up."""
    information = AddressInformation.__new__(AddressInformation)
    information._addr, information.port = peer[0], peer[1]
    information.flowinfo, information.scope_id = peer[2:] if len(peer) == 4 else (0, 0)
    return information
