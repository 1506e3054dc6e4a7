"""Adds the DICOM services of plug-ins to those of the node.

Rules: a plug-in adds SOP classes that the node does not have, and whose service class pynetdicom
knows. A request goes to the plug-in if its presentation context is one of these SOP classes, else
to the node. Events that only tell of something go to both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.service_class import ServiceClass
from pynetdicom.sop_class import uid_to_service_class

from lfscp.plugins.errors import PluginError
from lfscp.services.contexts import UNCOMPRESSED

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

    from lfscp.plugins.specifications import Services
    from lfscp.services.service_log import Handlers

_OPERATION: Final = "add the services of a plug-in"

Added = Sequence[tuple[str, "Services"]]  # by the name of the plug-in


def with_contexts(own: list[PresentationContext], added: Added) -> list[PresentationContext]:
    """The presentation contexts of the node and of plug-ins.

    Raises:
        PluginError: a SOP class cannot be added.
    """
    taken = {str(context.abstract_syntax): "the node" for context in own}
    contexts = list(own)
    for name, services in added:
        for uid in services.sop_classes:
            _require_new(str(uid), name, taken)
            taken[str(uid)] = f"plug-in {name}"
            contexts.append(build_context(str(uid), list(UNCOMPRESSED)))
    return contexts


def _require_new(uid: str, name: str, taken: dict[str, str]) -> None:
    if not UID(uid).is_valid:
        raise PluginError(_OPERATION, f"plug-in {name}: {uid!r} is no UID of a SOP class")
    if uid in taken:
        reason = f"plug-in {name}: {taken[uid]} has SOP class {uid} already"
        raise PluginError(_OPERATION, reason)
    if uid_to_service_class(uid) is ServiceClass:
        reason = f"plug-in {name}: pynetdicom knows no service class of SOP class {uid}"
        hint = "a private one for storage belongs into storage.private_sop_classes"
        raise PluginError(_OPERATION, reason, hint)


def with_handlers(own: Handlers, added: Added) -> Handlers:
    """The handlers of the node and of plug-ins.

    Raises:
        PluginError: something is no event, or no function.
    """
    handlers = list(own)
    for name, services in added:
        classes = frozenset(map(str, services.sop_classes))
        for event, handler in _pairs(name, services.handlers):
            if not event.is_intervention:
                handlers.append((event, handler))
                continue
            others = next((each for at, each in handlers if at is event), _nobody)
            handlers = [each for each in handlers if each[0] is not event]
            handlers.append((event, _either(classes, handler, others)))
    return handlers


def _pairs(name: str, pairs: Iterable[Any]) -> Iterable[tuple[Any, Callable[..., Any]]]:
    for pair in pairs:
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not (is_pair and hasattr(pair[0], "is_intervention") and callable(pair[1])):
            reason = f"plug-in {name}: handlers are pairs of an event of pynetdicom and a function"
            raise PluginError(_OPERATION, reason)
        yield pair


def _either(
    classes: frozenset[str], theirs: Callable[..., Any], others: Callable[..., Any]
) -> Callable[..., Any]:
    """Give a request to the plug-in if it is for one of its SOP classes."""

    def handle(event: Any) -> Any:
        context = getattr(event, "context", None)
        is_theirs = context is not None and str(context.abstract_syntax) in classes
        return theirs(event) if is_theirs else others(event)

    return handle


def _nobody(event: Any) -> Any:
    raise NotImplementedError(f"nobody handles {event.event.name}")
