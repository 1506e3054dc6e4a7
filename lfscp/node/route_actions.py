"""What the actions of routes need of a node: coercions, plug-ins, and the files that they name.

A node looks at its start, and whenever it reads its configuration again, whether they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lfscp.config import ConfigError, Settings
from lfscp.config.sources import complaint, origin_of
from lfscp.node.coercions import coercions_of
from lfscp.plugins.specifications import ACTION
from lfscp.routing.actions.action import ActionPlugins, Means
from lfscp.routing.errors import RouteError
from lfscp.routing.reading import read_routes, ready_actions

if TYPE_CHECKING:
    from lfscp.plugins.loading import Loaded

_KIND = "plugin"


def means_of(settings: Settings, plugins: ActionPlugins | None = None) -> Means:
    """What actions need.

    Args:
        plugins: None: they are not asked.
    Raises:
        ConfigError: a coercion cannot be.
    """
    if not any(route.actions for route in settings.route):
        return Means(settings.server.ae_title, {}, plugins)
    coercions = coercions_of(settings, lambda path: origin_of(settings.origins, path))
    return Means(settings.server.ae_title, {each.name: each for each in coercions}, plugins)


def require_ready(settings: Settings) -> None:
    """Refuse settings with an action whose files cannot be used.

    Raises:
        ConfigError: one line with source, key, value and what was expected.
    """
    try:
        ready_actions(read_routes(settings), means_of(settings))
    except RouteError as error:
        raise _complaint(settings, error.path, error.value, error.expected) from None


def require_plugins(settings: Settings, loaded: Sequence[Loaded]) -> None:
    """Refuse settings with an action of a plug-in that is not there, or has no such hook.

    Raises:
        ConfigError: one line with source, key, value and what was expected.
    """
    known = [each.name for each in loaded if ACTION in each.hooks]
    for at, route in enumerate(settings.route):
        for position, action in enumerate(route.actions):
            if _KIND in action and action[_KIND] not in known:
                path = ("route", str(at), "actions", str(position), _KIND)
                names = ", ".join(known) or "none is loaded"
                expected = f"a plug-in with the hook {ACTION}; these are: {names}"
                raise _complaint(settings, path, action[_KIND], expected)


def _complaint(
    settings: Settings, path: tuple[str, ...], value: object, expected: str
) -> ConfigError:
    return ConfigError(complaint(origin_of(settings.origins, path), path, value, expected))
