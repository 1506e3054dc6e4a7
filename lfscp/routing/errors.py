"""What is wrong with a route of the configuration, or with a request about routes."""

from __future__ import annotations


class RouteError(ValueError):
    """A route that cannot be.

    Args:
        path: the keys that lead to it in the settings, such as `("route", "0", "send_to")`.
        value: what stands there.
        expected: what was expected.
    """

    def __init__(self, path: tuple[str, ...], value: object, expected: str) -> None:
        super().__init__(f"{'.'.join(path)}: expected {expected}")
        self.path = path
        self.value = value
        self.expected = expected


class UnknownQueueError(Exception):
    """There is no such queue."""

    def __init__(self, route: str, destination: str) -> None:
        super().__init__(f"there is no queue of route {route} to {destination}")
