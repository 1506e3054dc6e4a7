"""Makes the form in which an object is sent, if a route changes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.routing.actions.action import OnTheWay, ReadyAction


@contextmanager
def prepared(
    instance: StoredInstance, actions: Sequence[ReadyAction], way: OnTheWay
) -> Iterator[StoredInstance]:
    """An object after the actions of a route, valid inside.

    Raises:
        ActionError: an action could not be done.
        ArchiveError, OSError: the object cannot be read or written.
    """
    with ExitStack() as made:
        for action in actions:
            instance = made.enter_context(action(instance, way))
        yield instance
