"""Makes routes of the settings, and says what in them cannot be.

Actions are imported where a route has some: the processes that only store need not load them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lfscp.config.checks import is_loopback
from lfscp.config.sources import ConfigError, Resolved, complaint
from lfscp.routing.actions.action import Action, ActionSettingError, Means, ReadyAction
from lfscp.routing.errors import RouteError
from lfscp.routing.routes import Route, form_of
from lfscp.rules.conditions.errors import ConditionError
from lfscp.rules.conditions.reading import read_condition

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.config.routes import RouteSettings


def read_routes(settings: Settings) -> tuple[Route, ...]:
    """The routes of the settings, in their order.

    Raises:
        RouteError: one cannot be.
    """
    return tuple(_read(at, table, settings) for at, table in enumerate(settings.route))


def require_routes(resolved: Resolved) -> None:
    """Refuse settings with a route that cannot be.

    Raises:
        ConfigError: one line with source, key, value and what was expected.
    """
    try:
        read_routes(resolved.settings)
    except RouteError as error:
        origin = resolved.origin(error.path)
        raise ConfigError(complaint(origin, error.path, error.value, error.expected)) from None


def ready_actions(routes: Iterable[Route], means: Means) -> dict[str, tuple[ReadyAction, ...]]:
    """The actions of routes by the names of these, ready to be done.

    Raises:
        RouteError: a file that one names cannot be used.
    """
    ready: dict[str, tuple[ReadyAction, ...]] = {}
    for at, route in enumerate(routes):
        if not route.actions:
            ready[route.name] = ()
            continue
        from lfscp.routing.actions.reading import made_ready

        try:
            ready[route.name] = made_ready(route.actions, means)
        except ActionSettingError as error:
            path = ("route", str(at), "actions", *error.path)
            raise RouteError(path, error.value, error.expected) from None
    return ready


def _read(at: int, table: RouteSettings, settings: Settings) -> Route:
    path = ("route", str(at))
    _require_peers(table, settings, (*path, "send_to"))
    try:
        condition = read_condition(table.when)
    except ConditionError as error:
        raise RouteError((*path, "when", *error.path), error.value, error.expected) from None
    actions, syntax = _actions(table, settings, path)
    return Route(table, condition, actions, syntax, form_of(table, syntax))


def _actions(
    table: RouteSettings, settings: Settings, path: tuple[str, ...]
) -> tuple[tuple[Action, ...], str]:
    """The actions, and the transfer syntax; empty for the stored one."""
    if not (table.actions or table.transfer_syntax):
        return (), ""
    from lfscp.routing.actions.reading import read_actions, read_transfer_syntax

    try:
        actions = read_actions(table.actions, settings)
    except ActionSettingError as error:
        raise RouteError((*path, "actions", *error.path), error.value, error.expected) from None
    if not table.transfer_syntax:
        return actions, ""
    try:
        last = read_transfer_syntax(table.transfer_syntax, settings)
    except ActionSettingError as error:
        expected = f"empty, or {error.expected}"
        raise RouteError((*path, "transfer_syntax"), error.value, expected) from None
    is_stow = any(settings.peers[name].is_dicomweb for name in table.send_to)
    is_done_by_association = last.is_uncompressed and not actions and not is_stow
    return (actions if is_done_by_association else (*actions, last)), last.uid


def _require_peers(table: RouteSettings, settings: Settings, path: tuple[str, ...]) -> None:
    for name in table.send_to:
        peer = settings.peers.get(name)
        if peer is None:
            known = ", ".join(settings.peers)
            which = f"; these are: {known}" if known else ", which has none"
            raise RouteError(path, name, f"peers of [peers]{which}")
        if peer.is_dicomweb:
            if table.commit:
                expected = "peers that are no DICOMweb server, since commit is true"
                raise RouteError(path, name, expected)
        elif _is_this_node(name, settings):
            expected = "another node than this one: objects would go round in a circle"
            raise RouteError(path, name, expected)


def _is_this_node(name: str, settings: Settings) -> bool:
    """Whether a peer is the node itself, by its AE title, host and port."""
    server, peer = settings.server, settings.peers[name]
    ports = {server.port, settings.tls.port} if settings.tls.enabled else {server.port}
    if name not in (server.ae_title, *server.ae_titles) or peer.port not in ports:
        return False
    here = {socket.gethostname().lower(), server.host.lower()}
    return is_loopback(peer.host) or peer.host.lower() in here
