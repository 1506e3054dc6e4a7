"""Finds the routes of each object that is stored.

Rules: this is on the path of each store. Objects of a series look alike to most routes, so what was
found for one is remembered by all that the conditions ask for: the sender, and the attributes as
they stand in the header. Only a condition that asks for more than the header reads the object.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.index.route_items import RouteItem
from lfscp.archive.store.received_objects import spooled_path_of
from lfscp.dicom.encoding.elements import Buffer
from lfscp.dicom.reading.header import STUDY_INSTANCE_UID, Header
from lfscp.routing.reading import read_routes
from lfscp.routing.routes import Route
from lfscp.rules.conditions.attributes import is_in_header, subject_of
from lfscp.rules.conditions.subject import Subject

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import Received
    from lfscp.config.current import CurrentSettings

_REMEMBERED: Final = 4096


class SettingsRouter:
    """Says where an object goes on to, by the settings as they are. Any thread may ask.

    Args:
        current: the settings, which a reload replaces.
    Raises:
        RouteError: a route cannot be.
    """

    def __init__(self, current: CurrentSettings) -> None:
        self._current = current
        self._settings = current.settings
        self._matching = Matching(read_routes(self._settings))

    def items(self, header: Header, received: Received) -> Sequence[RouteItem]:
        """See `route_items.Router`."""
        settings = self._current.settings
        if settings is not self._settings:
            self._matching = Matching(read_routes(settings))
            self._settings = settings
        return self._matching.items(header, received)


class Matching:
    """The routes at one time, and what was found of late."""

    def __init__(self, routes: Sequence[Route]) -> None:
        active = [route for route in routes if route.settings.enabled]
        self.routes = sorted(active, key=lambda route: -route.settings.priority)
        self._by_header = [route for route in self.routes if _needs_header_only(route)]
        self._by_object = [route for route in self.routes if not _needs_header_only(route)]
        asked = frozenset[int]().union(*(route.condition.tags for route in self._by_header))
        self._tags = (*sorted(asked), STUDY_INSTANCE_UID)  # whose objects go the same way
        self._known: dict[Any, Sequence[RouteItem]] = {}

    def items(self, header: Header, received: Received) -> Sequence[RouteItem]:
        """The destinations of an object, each form of it once."""
        if not self.routes:
            return ()
        found = self._remembered(header, received)
        if not self._by_object:
            return found
        items = {(item.destination, item.form): item for item in found}
        for item in _found(self._by_object, header, received):
            items.setdefault((item.destination, item.form), item)
        return tuple(items.values())

    def _remembered(self, header: Header, received: Received) -> Sequence[RouteItem]:
        """The destinations by the routes that need the header only."""
        key = (
            received.calling_ae_title,
            received.called_ae_title,
            received.address,
            received.transfer_syntax_uid,
            header.specific_character_set,
            header.raw(self._tags),
        )
        found = self._known.get(key)
        if found is None:
            found = _found(self._by_header, header, received)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found


def _needs_header_only(route: Route) -> bool:
    return all(map(is_in_header, route.condition.tags))


def _found(routes: Sequence[Route], header: Header, received: Received) -> Sequence[RouteItem]:
    """The destinations of an object by some routes, each form of it once."""
    subject = received_subject(header, received)
    items: dict[tuple[str, str], RouteItem] = {}
    for route in routes:
        if route.condition.holds(subject):
            for item in route.items(received.calling_ae_title, header.study_instance_uid):
                items.setdefault((item.destination, item.form), item)
    return tuple(items.values())


def received_subject(header: Header, received: Received) -> Subject:
    """A received object as conditions see it."""
    return subject_of(
        header,
        received.transfer_syntax_uid,
        lambda: _dataset_of(received),
        received.calling_ae_title,
        received.called_ae_title,
        received.address,
    )


def _dataset_of(received: Received) -> Buffer:
    if received.dataset is not None:
        return received.dataset
    with spooled_path_of(received).open("rb") as file:
        # It stays mapped for as long as the attributes are needed.
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return whole[received.dataset_offset :]
