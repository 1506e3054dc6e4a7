"""Changing a server while it runs: settings read again at SIGHUP, no association dropped.

What changes holds for the associations to come; those that run keep their certificates and limits,
except for the time limits, which pynetdicom's AE gives to all. A wrong configuration changes
nothing: it is read and tried as a whole before any of it is taken over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lfscp.config import ConfigError, Settings
from lfscp.config.current import CurrentSettings, Renewal, renew
from lfscp.config.server import ServerSection
from lfscp.node.endpoints import tls_context
from lfscp.node.route_actions import require_plugins
from lfscp.observe import audit
from lfscp.observe.logging import get_logger, set_level
from lfscp.upperlayer.connection.limits import ReceiveLimits

if TYPE_CHECKING:
    from ssl import SSLContext

    from pynetdicom import AE

    from lfscp.plugins.plugins import Plugins
    from lfscp.server.leader_follower import LeaderFollowerServer

LOG: Final = get_logger("lfscp.node")
MEGABYTE: Final = 1_000_000

ReadSettings = Callable[[], Settings]


def read_again(
    current: CurrentSettings, read: ReadSettings | None, plugins: Plugins
) -> Renewal | None:
    """Read the settings, try their certificates and plug-ins; None, and one line, when that fails.

    `current` and `plugins` have the new ones when this returns them. The audit trail's file is
    opened anew.
    """
    audit.reopen()
    if read is None:
        LOG.warning("nothing to reload", reason="this node was not started from a configuration")
        return None
    try:
        renewal = renew(current.settings, read())
        tls_context(renewal.settings.tls)
        loaded = plugins.prepare(renewal.settings)
        require_plugins(renewal.settings, loaded)
    except (ConfigError, OSError) as error:
        LOG.error("configuration not reloaded, the old one stays", reason=str(error))  # noqa: TRY400 - one line
        return None
    current.settings = renewal.settings
    plugins.renew(renewal.settings, loaded)
    set_level(renewal.settings.logging.level)
    return renewal


def tell(renewal: Renewal) -> None:
    """Write the line about a reload."""
    fields = {"changed": ", ".join(renewal.changed) or "nothing but files"}
    if renewal.waiting:
        fields["after_a_restart"] = ", ".join(renewal.waiting)
    LOG.info("configuration reloaded", **fields)


def tune(ae: AE, server: ServerSection) -> None:
    """Give an AE what may change while it runs."""
    ae.acse_timeout = server.acse_timeout_s
    ae.dimse_timeout = server.dimse_timeout_s
    ae.network_timeout = server.network_timeout_s
    ae.maximum_associations = server.max_associations or sys.maxsize
    # With further titles it is Admission that asks for one of them.
    ae.require_called_aet = server.require_called_ae_title and not server.ae_titles


def receive_limits(settings: Settings) -> ReceiveLimits:
    """The limits of what is received, as configured."""
    return ReceiveLimits(
        settings.storage.max_object_mb * MEGABYTE,
        settings.server.min_receive_rate,
        settings.budgets.request_mb * MEGABYTE,
        max_workflow_bytes=settings.budgets.workflow_mb * MEGABYTE,
    )


def apply(
    settings: Settings,
    server: LeaderFollowerServer,
    ssl_context: SSLContext | None = None,
) -> None:
    """Give a server what the settings say now.

    Args:
        ssl_context: what `tls_context` gave for these settings; made here when it is None.
    Raises:
        TLSFilesError: a certificate or key cannot be used; nothing has changed.
    """
    server.ssl_context = ssl_context or tls_context(settings.tls)
    tune(server.ae, settings.server)
    shortage = server.receive_limits.shortage  # of the disk: no setting
    server.receive_limits = replace(receive_limits(settings), shortage=shortage)
    server.pool.max_running = settings.pool.max_running
    server.pool.max_waiting = settings.pool.max_waiting
    server.pool.max_idle_s = settings.pool.max_idle_s or None
    limits = server.limits
    limits.max_associations = settings.server.max_associations_per_address
    # One process counts its own without help.
    limits.max_total = settings.server.max_associations if limits.board.workers > 1 else 0
    limits.max_per_minute = settings.server.max_connections_per_minute
