"""Verifies and reports commitments that no association serves any more, each on a new one.

It runs in one process of the node, and looks about once a second for what is due. A commitment that
is taken is held, so no other process or node works on it meanwhile; see `Commitments`. One of a
peer is worked on at a time, and while a peer is away all of its reports wait: so one that hangs
does not hold up the reports of the others.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from lfscp.ae_title import validate_ae_title
from lfscp.archive.workflow.commitment.commitment import Commitment, State
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.config.current import CurrentSettings
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.errors import OperationError
from lfscp.services.access.added_peers import AddedPeers
from lfscp.services.access.permissions import calling_peer
from lfscp.services.commitment.progress import (
    KEEP_S,
    LOG,
    NO_ADDRESS,
    LostCommitmentError,
    Progress,
    fields_of,
)
from lfscp.services.commitment.report import NotReportedError, PeerAwayError
from lfscp.services.contexts import STORAGE_COMMITMENT
from lfscp.services.sending.destination import (
    Destination,
    DestinationError,
    NoContextAcceptedError,
)
from lfscp.upperlayer.connection.errors import CalledOffError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import PeerSettings, Settings

_LOOK_S: Final = 1.0
_LOOK_AFTER_ERROR_S: Final = 10.0
_AT_ONCE: Final = 4
_STOP_S: Final = 10.0
_TIDY_S: Final = 3600.0
_KEPT_MS: Final = 30 * 24 * 3_600_000  # how long one that has ended is shown


class StoppedError(Exception):
    """The node ends."""


class Reporter:
    """The commitments of a node that are due, in threads of one of its processes."""

    def __init__(self, archive: Archive, settings: Settings | CurrentSettings) -> None:
        self._current = CurrentSettings.of(settings)
        self._commitments = Commitments(archive.index, self._current.settings.server.ae_title)
        self._progress = Progress(archive, self._current, self._commitments)
        self._added = AddedPeers(archive.data_dir)
        self._stopping = threading.Event()
        self._room = threading.Semaphore(_AT_ONCE)
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="lfscp-reporter", daemon=True)
        self._look = threading.Event()  # one has ended: look at once for the next of its peer
        self._at_work: set[str] = set()  # AE titles of the peers whose commitments are worked on
        self._tidy_at = 0.0

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, between two reads of an object; a report that is on its way is broken off.

        A disk that does not answer is not waited for.
        """
        self._stopping.set()
        self._look.set()
        deadline = time.monotonic() + _STOP_S
        self._thread.join(_STOP_S)
        for each in self._threads:
            each.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        wait_s, said = _LOOK_S, ""
        while not self._stopping.is_set():
            self._look.wait(wait_s)
            self._look.clear()
            try:
                self._take_all_due()
                self._tidy()
                wait_s, said = _LOOK_S, ""
            except OperationError as error:
                wait_s = _LOOK_AFTER_ERROR_S
                if said != error.reason:
                    LOG.warning("storage commitments wait for the index", reason=str(error))
                said = error.reason
            except Exception as error:  # noqa: BLE001 - the node goes on
                wait_s = _LOOK_AFTER_ERROR_S
                LOG.error("storage commitments wait after an internal error", exc_info=error)

    def _take_all_due(self) -> None:
        while self._room.acquire(timeout=_LOOK_S) and not self._stopping.is_set():
            try:
                due = self._commitments.take_due(tuple(self._at_work))
            except BaseException:
                self._room.release()
                raise
            if due is None:
                self._room.release()
                return
            self._begin(due)

    def _begin(self, due: Commitment) -> None:
        self._at_work.add(due.calling_ae_title)
        # Not an executor's threads: Python would wait for those at its exit.
        thread = threading.Thread(
            target=self._work, args=(due,), name="lfscp-commitment", daemon=True
        )
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def _tidy(self) -> None:
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDY_S
            self._commitments.forget_ended(_KEPT_MS)

    def _work(self, commitment: Commitment) -> None:
        try:
            self._go_on_with(commitment, _Holding(self._commitments, commitment, self._stopping))
        except LostCommitmentError:
            pass  # whoever has it goes on
        except (StoppedError, CalledOffError):
            self._free(commitment)
        except (NotReportedError, OperationError) as error:
            if self._stopping.is_set():
                self._free(commitment)
            else:
                is_away = isinstance(error, PeerAwayError)
                self._progress.put_off(commitment, str(error), is_away=is_away)
        except Exception as error:  # noqa: BLE001 - the others are reported
            LOG.error(
                "storage commitment failed unexpectedly", **fields_of(commitment), exc_info=error
            )
            self._progress.put_off(commitment, "internal error, see the log")
        finally:
            self._at_work.discard(commitment.calling_ae_title)
            self._room.release()
            self._look.set()

    def _go_on_with(self, commitment: Commitment, holding: _Holding) -> None:
        if commitment.state is State.RECEIVED:
            self._progress.verify(commitment, holding.renew)
        peer = self._peer(commitment.calling_ae_title)
        if peer is None:
            raise PeerAwayError(NO_ADDRESS)
        held = self._commitments.hold(commitment.id)
        if held is not None:
            self._report(held, peer, holding)

    def _report(self, commitment: Commitment, peer: PeerSettings, holding: _Holding) -> None:
        called_as = _ae_title(commitment.called_ae_title)
        title = commitment.calling_ae_title
        destination = Destination(title, peer, self._current.settings.server, called_as)
        context = build_context(
            STORAGE_COMMITMENT, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]
        )
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = UID(STORAGE_COMMITMENT)
        role.scu_role, role.scp_role = False, True
        try:
            with destination.associate([context], holding.call_off, [role]) as association:
                holding.renew()
                accepted = association.accepted_contexts[0]
                self._progress.report(commitment, association, accepted, "new")
        except NoContextAcceptedError:
            raise PeerAwayError(f"{destination} does not take reports of commitment") from None
        except (DestinationError, ValueError) as error:
            raise PeerAwayError(str(error)) from None

    def _peer(self, ae_title: str) -> PeerSettings | None:
        known = {**self._added.all(), **self._current.settings.peers}
        return calling_peer(known, ae_title)

    def _free(self, commitment: Commitment) -> None:
        try:
            self._commitments.free(commitment.id)
        except OperationError as error:
            self._progress.put_off(commitment, str(error))


class _Holding:
    """This process's hold on a commitment, renewed now and then. Any thread may call."""

    def __init__(
        self, commitments: Commitments, commitment: Commitment, stopping: threading.Event
    ) -> None:
        self._keep = partial(commitments.keep, commitment.id)
        self._stopping = stopping
        self._lock = threading.Lock()
        self._keep_at = time.monotonic() + KEEP_S

    def renew(self) -> None:
        """Renew it when it is time.

        Raises:
            StoppedError: the node ends.
            LostCommitmentError: another process works on it now.
        """
        if self._stopping.is_set():
            raise StoppedError
        with self._lock:
            if time.monotonic() < self._keep_at:
                return
            self._keep_at = time.monotonic() + KEEP_S
        if not self._keep():
            raise LostCommitmentError

    def call_off(self) -> None:
        """The same for an association, which is called off then."""
        try:
            self.renew()
        except (StoppedError, LostCommitmentError, OperationError) as error:
            raise CalledOffError(str(error) or "the node ends") from None


def _ae_title(title: str) -> str:
    """An AE title that can be called by; empty when it is none."""
    try:
        return validate_ae_title(title)
    except ValueError:
        return ""
