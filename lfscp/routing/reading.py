"""Makes routes of the settings, and says what in them cannot be."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from pydicom.uid import UID

from lfscp.config.checks import is_loopback
from lfscp.config.sources import ConfigError, Resolved, complaint
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.routing.actions import keeps_uids, read_actions
from lfscp.routing.errors import RouteError
from lfscp.routing.routes import Route, form_of
from lfscp.rules.conditions.errors import ConditionError
from lfscp.rules.conditions.reading import read_condition

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.config.routes import RouteSettings

_TARGETS: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_SYNTAXES: Final = {UID(uid).keyword: uid for uid in _TARGETS}


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


def _read(at: int, table: RouteSettings, settings: Settings) -> Route:
    path = ("route", str(at))
    _require_peers(table, settings, (*path, "send_to"))
    try:
        condition = read_condition(table.when)
    except ConditionError as error:
        raise RouteError((*path, "when", *error.path), error.value, error.expected) from None
    try:
        actions = read_actions(table.actions, settings)
    except ValueError as error:
        position, expected = error.args
        wrong = (*path, "actions", str(position))
        raise RouteError(wrong, table.actions[position], expected) from None
    if table.commit and not keeps_uids(table.actions):
        expected = "false, since an action gives objects new UIDs"
        raise RouteError((*path, "commit"), True, expected)
    syntax = _syntax(table, (*path, "transfer_syntax"))
    return Route(table, condition, actions, syntax, form_of(table, syntax))


def _require_peers(table: RouteSettings, settings: Settings, path: tuple[str, ...]) -> None:
    for name in table.send_to:
        peer = settings.peers.get(name)
        if peer is None:
            known = ", ".join(settings.peers) or "none is configured"
            raise RouteError(path, name, f"peers of [peers]; these are: {known}")
        if peer.is_dicomweb:
            if table.commit:
                expected = "peers that are no DICOMweb server, since commit is true"
                raise RouteError(path, name, expected)
            if table.transfer_syntax:
                expected = "peers that are no DICOMweb server, since transfer_syntax is set"
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


def _syntax(table: RouteSettings, path: tuple[str, ...]) -> str:
    name = table.transfer_syntax
    uid = _SYNTAXES.get(name, name)
    if uid and uid not in _TARGETS:
        names = ", ".join(UID(each).keyword for each in _TARGETS)
        raise RouteError(path, name, f"empty, or one of {names}")
    return uid
