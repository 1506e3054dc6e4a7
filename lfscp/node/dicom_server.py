"""Makes the server of a node from its settings: contexts, handlers and limits, made once."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pynetdicom import AE

from lfscp.config import ConfigError
from lfscp.config.oidc import is_safe_url
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import read_first
from lfscp.node import reload
from lfscp.node.endpoints import tls_context
from lfscp.observe.logging import get_logger
from lfscp.server import LeaderFollowerServer
from lfscp.server.address_limits import AddressLimits
from lfscp.server.proxy_protocol import TrustedProxies
from lfscp.server.settings import ServerSettings
from lfscp.services.access.added_peers import AddedPeers
from lfscp.services.access.admission import Admission
from lfscp.services.access.served_settings import ServedSettings
from lfscp.services.added_services import with_contexts
from lfscp.services.associations import record_end
from lfscp.services.contexts import contexts, storage_classes
from lfscp.services.handlers import all_handlers
from lfscp.upperlayer.connection.limits import ReceiveLimits

if TYPE_CHECKING:
    from ssl import SSLContext

    from lfscp.config import Settings
    from lfscp.config.current import CurrentSettings
    from lfscp.node.parts import Parts
    from lfscp.server.association_board import AssociationBoard

LOG: Final = get_logger("lfscp.server")


def make_server(
    parts: Parts, current: CurrentSettings, board: AssociationBoard | None
) -> LeaderFollowerServer:
    """The server of a node; several workers share what is made here.

    Args:
        current: the settings, for handlers that are to see when they change.
        board: where worker processes count their associations together.
    Raises:
        ConfigError: a certificate or key cannot be used.
        PluginError: a plug-in adds what cannot be added.
    """
    settings, archive, endpoints = current.settings, parts.archive, parts.endpoints
    added = list(parts.plugins.services())
    served = ServedSettings(current, AddedPeers(archive.data_dir))
    server = LeaderFollowerServer(
        application_entity(settings),
        endpoints.address,
        evt_handlers=all_handlers(archive, served, added),
        ssl_context=secure_context(settings),
        contexts=with_contexts(contexts(settings), added),
        threads=settings.pool.threads,
        settings=ServerSettings(
            spool_dir=archive.incoming_dir,
            file_header=part10_header,
            examine=read_first,
            listen_socket=endpoints.first,
            tls_socket=endpoints.second,
            accept_unknown_storage=settings.storage.accept_unknown_sop_classes,
            storage_classes=storage_classes(settings),
            admit=Admission(served),
            limits=AddressLimits(board=board),
            receive_limits=ReceiveLimits(shortage=lambda: archive.space.shortage),
            proxies=trusted_proxies(settings),
            on_end=record_end,
            # A bucket is spoken to in threads of the client's own, which would inherit the binding.
            one_processor=settings.pool.one_processor and not archive.files.is_remote,
        ),
    )
    reload.apply(settings, server, server.ssl_context)
    return server


def application_entity(settings: Settings) -> AE:
    """The pynetdicom application entity of a node as configured."""
    ae = AE(settings.server.ae_title)
    ae.maximum_pdu_size = settings.server.max_pdu_bytes
    reload.tune(ae, settings.server)
    return ae


def trusted_proxies(settings: Settings) -> TrustedProxies | None:
    """The load balancers that say whom they speak for; None without any."""
    server = settings.server
    if not server.proxy_protocol:
        return None
    return TrustedProxies(server.proxy_protocol, server.acse_timeout_s)


def secure_context(settings: Settings) -> SSLContext | None:
    """What the listener for TLS needs; None when there is none.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    warn_of_readable_keys(settings)
    warn_of_plain_secrets(settings)
    try:
        return tls_context(settings.tls)
    except OSError as error:
        raise ConfigError(f"tls: {error}") from error


def warn_of_plain_secrets(settings: Settings) -> None:
    """Say which peers get a password or token over a connection without TLS."""
    for title, peer in settings.peers.items():
        has_passcode = bool(peer.password.get_secret_value() or peer.password_file)
        has_login = has_passcode or bool(peer.token.get_secret_value() or peer.token_file)
        is_safe = is_safe_url(peer.url) if peer.is_dicomweb else peer.tls
        if has_login and not is_safe:
            hint = "use https" if peer.is_dicomweb else "set tls = true"
            LOG.warning("a login crosses the network in plain text", peer=title, hint=hint)


def warn_of_readable_keys(settings: Settings) -> None:
    """Say which private keys, passwords and tokens anybody on this machine could read."""
    tls = settings.tls
    keys = [tls.key_file or tls.certificate_file] if tls.enabled else []
    keys += [peer.tls_key_file or peer.tls_certificate_file for peer in settings.peers.values()]
    secrets = [peer.password_file or peer.token_file for peer in settings.peers.values()]
    for kind, files in {"private key": keys, "password or token": secrets}.items():
        for file in dict.fromkeys(filter(None, files)):
            with suppress(OSError):  # that it is missing is said by whoever needs it
                if os.stat(file).st_mode & stat.S_IROTH:  # noqa: PTH116 - as text, as configured
                    hint = f"chmod o-r {file}"
                    LOG.warning(f"everybody can read a {kind}", file=file, hint=hint)
