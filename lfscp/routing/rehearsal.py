"""Says what the actions of a route would change in an object; nothing is sent, no plug-in asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.tag import Tag

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.routing.actions.action import Action, ActionError, Means, OnTheWay
from lfscp.routing.actions.deidentifying import DeidentifyAction
from lfscp.routing.actions.plugged_in import PluginAction
from lfscp.routing.actions.reading import made_ready

_MOST: Final = 40  # changes that are said of one action
_LONGEST: Final = 64  # characters of a value
_ORIGINAL_ATTRIBUTES: Final = 0x04000561


def rehearse(
    instance: StoredInstance, actions: Sequence[Action], means: Means, origin: str
) -> list[str]:
    """What each action does with an object, in lines for people.

    Args:
        origin: AE title of its sender.
    Raises:
        ActionSettingError: a file that an action names cannot be used.
        OSError: the object cannot be read.
    """
    with ExitStack() as kept:
        folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="lfscp-route-"))
        way = OnTheWay(Path(folder), origin, datetime.now().astimezone())
        lines = []
        for action, ready in zip(actions, made_ready(actions, means), strict=True):
            if isinstance(action, PluginAction):
                lines.append(f"{action.words}: it is not asked here")
                continue
            try:
                changed = kept.enter_context(ready(instance, way))
            except (ActionError, ArchiveError) as error:
                return [*lines, f"{action.words}: does not go: {error.reason}"]
            if isinstance(action, DeidentifyAction):
                lines.append(f"{action.words}: is not held back")
            else:
                same = ": no change" if changed is instance else ""
                lines += [f"{action.words}{same}", *_some(_changes(instance, changed))]
            instance = changed
        return lines


def _some(changes: Iterator[str]) -> list[str]:
    found = list(changes)
    more = len(found) - _MOST
    said = [f"  {each}" for each in found[:_MOST]]
    return [*said, f"  and {more} more"] if more > 0 else said


def _changes(before: StoredInstance, after: StoredInstance) -> Iterator[str]:
    if before is after:
        return
    old, new = _read(before), _read(after)
    if before.transfer_syntax_uid != after.transfer_syntax_uid:
        names = [each.file_meta.TransferSyntaxUID.name for each in (old, new)]
        yield f"transfer syntax: {' -> '.join(names)}"
    for number in sorted({*old.keys(), *new.keys()}):
        tag = Tag(number)
        if tag == _ORIGINAL_ATTRIBUTES:
            continue
        was, now = old.get(tag), new.get(tag)
        if was != now:
            name = (was if now is None else now).keyword or str(tag)
            yield f"{name}: {_shown(was)} -> {_shown(now)}"


def _read(instance: StoredInstance) -> Any:
    return dcmread(os.fspath(instance.path), stop_before_pixels=True)


def _shown(element: Any) -> str:
    if element is None:
        return "absent"
    if element.VR == "SQ":
        return f"{len(element.value)} items"
    text = " ".join(str("" if element.value is None else element.value).split())
    return f'"{text}"' if len(text) <= _LONGEST else f'"{text[:_LONGEST]}..."'
