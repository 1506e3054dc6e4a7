"""Says what routes would do with an object, and why; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lfscp.config.routes import RouteSettings
from lfscp.routing.routes import Route
from lfscp.rules.conditions.subject import Subject


@dataclass(frozen=True, slots=True)
class Explained:
    """What one route does with an object.

    Args:
        goes: whether the object meets its condition and goes somewhere.
        reason: why, or why not.
        destinations: where it goes; of a fail-over list all, in their order.
        when: when it goes, in words; empty if it does not go.
    """

    route: str
    goes: bool
    reason: str
    destinations: tuple[str, ...]
    when: str


def explain(routes: Iterable[Route], subject: Subject, study_uid: str) -> list[Explained]:
    """What each route does with an object."""
    return [_explain(route, subject, study_uid) for route in routes]


def explain_study(
    routes: Iterable[Route], subjects: Sequence[Subject], study_uid: str
) -> list[Explained]:
    """What each route does with a study: by the first of its objects that goes."""
    explained = []
    for route in routes:
        each = [_explain(route, subject, study_uid) for subject in subjects]
        goes = [one for one in each if one.goes]
        found = goes[0] if goes else each[0]
        if route.settings.on == "instance" and goes and len(goes) < len(each):
            reason = f"{len(goes)} of {len(each)} objects: {found.reason}"
            found = Explained(found.route, True, reason, found.destinations, found.when)
        explained.append(found)
    return explained


def _explain(route: Route, subject: Subject, study_uid: str) -> Explained:
    told = route.condition.explain(subject)
    if not route.settings.enabled:
        return Explained(route.name, False, "the route is not enabled", (), "")
    if not route.condition.holds(subject):
        return Explained(route.name, False, told, (), "")
    first = route.destinations(subject.calling_ae_title, study_uid)
    if not first:
        reason = f"it came from {subject.calling_ae_title}, and does not go back"
        return Explained(route.name, False, reason, (), "")
    destinations = first
    if route.settings.mode == "failover":
        origin = subject.calling_ae_title
        destinations = tuple(peer for peer in route.alternatives(first[0]) if peer != origin)
    return Explained(route.name, True, told, destinations, schedule_words(route.settings))


def schedule_words(settings: RouteSettings) -> str:
    """When objects go by a route, such as `at once, 20:00-06:00, on sat sun`."""
    when = "at once"
    if settings.on != "instance":
        when = f"with its {settings.on}, {settings.quiet_s:g} s after the last object"
    if settings.hours:
        when += f", {' and '.join(settings.hours)}"
    if settings.days:
        when += f", on {' '.join(settings.days)}"
    return when
