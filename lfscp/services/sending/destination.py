"""Opens and releases associations with peers that the node sends to: objects, and reports."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from lfscp.config import PeerSettings
from lfscp.config.peer_secrets import password_of
from lfscp.config.server import ServerSection
from lfscp.upperlayer.connection.tls import client_context
from lfscp.upperlayer.requestor import associate


def ssl_context(peer: PeerSettings) -> ssl.SSLContext | None:
    """The TLS context for a configured peer; None without TLS.

    Raises:
        TLSFilesError: a certificate or key cannot be used.
    """
    if not peer.tls:
        return None
    return client_context(
        ca_file=Path(peer.tls_ca_file) if peer.tls_ca_file else None,
        certificate_file=Path(peer.tls_certificate_file) if peer.tls_certificate_file else None,
        key_file=Path(peer.tls_key_file) if peer.tls_key_file else None,
        verification=peer.tls_verify,
    )


class DestinationError(Exception):
    """There is no association with the destination; the text says why."""


class NoContextAcceptedError(DestinationError):
    """The destination takes none of these objects, but may take others."""


class Destination:
    """A peer that objects are moved to, or something is reported to.

    Args:
        ae_title: its AE title.
        peer: where it is.
        server: our own AE title, time limits and PDU size.
        calling_ae_title: by which to call it; empty for our own.
    """

    def __init__(
        self, ae_title: str, peer: PeerSettings, server: ServerSection, calling_ae_title: str = ""
    ) -> None:
        self._ae_title = ae_title
        self._peer = peer
        self._server = server
        self._calling_ae_title = calling_ae_title or server.ae_title

    def __str__(self) -> str:
        return f"{self._ae_title} at {self._peer.host}:{self._peer.port}"

    @contextmanager
    def associate(
        self,
        contexts: list[PresentationContext],
        while_waiting: Callable[[], None],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    ) -> Iterator[Any]:
        """An established association, released at the end.

        Args:
            contexts: to propose, with their IDs.
            while_waiting: called about once a second while the association waits for the peer.
            roles: to propose, where they are not the usual ones.
        Raises:
            DestinationError: it cannot be opened.
            NoContextAcceptedError: no presentation context was accepted.
        """
        association = self._open(contexts, while_waiting, roles)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _open(
        self,
        contexts: list[PresentationContext],
        while_waiting: Callable[[], None],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    ) -> Any:
        server = self._server
        try:
            passcode = password_of(self._peer)
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            reason = f"{self} cannot be asked: its password_file cannot be used: {words}"
            raise DestinationError(reason) from None
        try:
            association = associate(
                (self._peer.host, self._peer.port),
                calling_ae_title=self._calling_ae_title,
                called_ae_title=self._ae_title,
                contexts=contexts,
                ssl_context=ssl_context(self._peer),
                acse_timeout_s=server.acse_timeout_s,
                dimse_timeout_s=server.dimse_timeout_s,
                network_timeout_s=server.network_timeout_s,
                connection_timeout_s=server.acse_timeout_s,
                max_pdu_bytes=server.max_pdu_bytes,
                ext_neg=roles,
                user=self._peer.user,
                passcode=passcode,
                while_waiting=while_waiting,
            )
        except OSError as error:
            raise DestinationError(f"{self} cannot be reached: {error}") from error
        if association.is_established:
            return association
        if association.rejected_contexts and not association.accepted_contexts:
            raise NoContextAcceptedError(f"{self} accepts none of the SOP classes")
        what = "rejected the association" if association.is_rejected else "cannot be reached"
        reason = (association.end_reason or "").removeprefix("cannot connect: ")
        why = f": {reason}" if reason else ""
        raise DestinationError(f"{self} {what}{why}")
