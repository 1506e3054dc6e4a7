"""Asks plug-ins, and takes what they answer: a refusal, a changed object, something to add.

Rules: an answer of a wrong kind is a failure, as an error is. A failure is named in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lfscp.plugins.errors import PluginError, PluginRefusalError, is_from_keyboard
from lfscp.plugins.events import Refusal
from lfscp.plugins.in_use import PluginInUse
from lfscp.plugins.specifications import ACTION

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.config.plugins import PluginsSection


def decide(
    plugins: Sequence[PluginInUse],
    hook: str,
    given: Callable[[], dict[str, Any]],
    settings: PluginsSection,
) -> Refusal | None:
    """Ask plug-ins in their order, until one refuses.

    Args:
        given: makes the arguments of one, so that none sees what another changed.
    Returns:
        The first refusal; None if there is none.
    """
    for each in plugins:
        try:
            answer = each.calls.call(
                partial(each.run, hook, **given()), settings.decision_timeout_s
            )
            if not (answer is None or isinstance(answer, Refusal)):
                raise TypeError("neither None nor a Refusal")  # noqa: TRY301 - it failed, too
        except BaseException as error:
            if is_from_keyboard(error):
                raise
            each.failed(hook, error)
            answer = None
            if settings.on_failure == "refuse":
                answer = Refusal(f"plug-in {each.loaded.name} failed", is_temporary=True)
        else:
            outcome = "done" if answer is None else "refused"
            each.count(hook, outcome)
        if isinstance(answer, Refusal):
            return answer if isinstance(answer.reason, str) else _in_words(answer)
    return None


def _in_words(refusal: Refusal) -> Refusal:
    """A refusal whose reason is no text: it counts all the same, and its peer gets a text."""
    reason = "" if refusal.reason is None else str(refusal.reason)
    return Refusal(reason or "refused by a plug-in", is_temporary=bool(refusal.is_temporary))


def act(plugin: PluginInUse, dataset: Dataset, timeout_s: float) -> Dataset:
    """Have a plug-in change an object.

    Raises:
        PluginRefusalError: it does not let the object go on.
        PluginError: it failed or took too long.
    """
    from pydicom.dataset import Dataset

    name = plugin.loaded.name
    try:
        changed = plugin.calls.call(partial(plugin.run, ACTION, dataset=dataset), timeout_s)
        if not (changed is None or isinstance(changed, Dataset | Refusal)):
            raise TypeError("neither None nor a Dataset")  # noqa: TRY301 - it failed, too
    except BaseException as error:
        if is_from_keyboard(error):
            raise
        plugin.failed(ACTION, error)
        reason = f"plug-in {name} failed, see the log"
        raise PluginError("change the object", reason) from error
    if isinstance(changed, Refusal):
        plugin.count(ACTION, "refused")
        raise PluginRefusalError(
            "change the object", changed.reason, is_temporary=changed.is_temporary
        )
    plugin.count(ACTION, "done")
    return dataset if changed is None else changed


def added_by(plugin: PluginInUse, hook: str, kind: type[Any]) -> Any:
    """What a plug-in adds to the node; None if nothing.

    Raises:
        PluginError: it failed, or gave something of another kind.
    """
    name = plugin.loaded.name
    try:
        added = plugin.run(hook)
    except BaseException as error:
        if is_from_keyboard(error):
            raise
        plugin.failed(hook, error)
        reason = f"plug-in {name} failed in {hook}, see the log"
        raise PluginError("add what a plug-in brings", reason) from error
    if not (added is None or isinstance(added, kind)):
        reason = f"{hook} of plug-in {name} must give None or {kind.__name__}"
        raise PluginError("add what a plug-in brings", reason)
    plugin.count(hook, "done")
    return added
