"""Makes coercions of the tables `[[coercion]]` of the configuration, and says what cannot be.

Rules: whatever can be known beforehand is checked here: attributes, values and their VRs, tables,
regular expressions. What would make an object another one, or unreadable, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import regex

from lfscp.config.coercion import CoercionSection, MapSection, ReplaceSection, ValueSection
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.rules.coercion.actions import Action, Copy, Map, Remove, Replace, Set
from lfscp.rules.coercion.attribute_path import AttributePath, read_path
from lfscp.rules.coercion.coercion import Coercion
from lfscp.rules.coercion.errors import CoercionError
from lfscp.rules.coercion.original_attributes import ORIGINAL_ATTRIBUTES
from lfscp.rules.coercion.table import TableError, read_table
from lfscp.rules.coercion.values import SETTABLE_VRS, fault_of
from lfscp.rules.conditions.errors import ConditionError
from lfscp.rules.conditions.reading import read_condition

Path = tuple[str, ...]
ReadFile = Callable[[str], str]

_SOP_CLASS_UID: Final = 0x00080016
_IDENTITY: Final = frozenset({0x00080018, 0x0020000D, 0x0020000E})  # of instance, study, series
_PIXELS: Final = 0x7FE00000
# They say how the pixels are encoded.
_OF_PIXELS: Final = frozenset(
    {0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011}
    | {0x00280100, 0x00280101, 0x00280102, 0x00280103}
)
_LAST_OF_FILES: Final = 0x0007FFFF  # groups of commands, file meta information, directories
_NEVER: Final = {
    _SOP_CLASS_UID: "an attribute that may change; the SOP class stays",
    SPECIFIC_CHARACTER_SET: "an attribute that may change; the node sets the character set itself",
    ORIGINAL_ATTRIBUTES: "an attribute that may change; the node writes this one itself",
}


def read_coercions(sections: Iterable[CoercionSection], read_file: ReadFile) -> list[Coercion]:
    """Make the coercions of a configuration.

    Args:
        read_file: gives the text of a file; raises OSError or ValueError.
    Raises:
        CoercionError: one cannot be; its path begins with "coercion" and the number of the rule.
    """
    made: list[Coercion] = []
    for number, section in enumerate(sections):
        path = ("coercion", str(number))
        if any(each.name == section.name for each in made):
            raise CoercionError((*path, "name"), section.name, "a name that no other coercion has")
        made.append(_read(section, path, read_file))
    return made


def _read(section: CoercionSection, path: Path, read_file: ReadFile) -> Coercion:
    try:
        when = read_condition(section.when, (*path, "when")) if section.when else None
    except ConditionError as error:
        raise CoercionError(error.path, error.value, error.expected) from None
    steps = (
        [_copy(key, text, (*path, "copy", key)) for key, text in section.copy_.items()],
        [_map(key, each, (*path, "map", key), read_file) for key, each in section.map.items()],
        [_replace(key, each, (*path, "replace", key)) for key, each in section.replace.items()],
        [_set(key, value, (*path, "set", key)) for key, value in section.set.items()],
        [_remove(key, (*path, "remove")) for key in section.remove],
    )
    if not any(steps):
        raise CoercionError(path, section.name, "something to do: copy, map, replace, set, remove")
    return Coercion(section.name, steps, when, section.on_arrival, section.keep_original)


def _copy(key: str, text: str, path: Path) -> Action:
    target = _changeable(key, path)
    _require_text(target, path, key)
    if target.tag in _IDENTITY:
        raise CoercionError(path, key, "another attribute; this would make objects of one UID")
    return Copy(target, _attribute(text, path))


def _map(key: str, section: MapSection, path: Path, read_file: ReadFile) -> Action:
    target = _changeable(key, path)
    _require_text(target, path, key)
    if target.tag in _IDENTITY and section.otherwise == "empty":
        raise CoercionError((*path, "otherwise"), section.otherwise, '"keep", since it is a UID')
    source = _attribute(section.attribute, (*path, "attribute")) if section.attribute else None
    try:
        table = read_table(read_file(section.table), section.key, section.value)
    except OSError as error:
        expected = f"a file that can be read: {error.strerror or error}"
        raise CoercionError((*path, "table"), section.table, expected) from None
    except (TableError, ValueError) as error:
        raise CoercionError((*path, "table"), section.table, str(error)) from None
    _check_table(table, target, section, path)
    return Map(target, table, source, section.otherwise)


def _check_table(
    table: Mapping[str, str], target: AttributePath, section: MapSection, path: Path
) -> None:
    for value in table.values():
        fault = "" if target.vr == "UN" else fault_of(value, target.vr)
        if not fault and not value and target.tag in _IDENTITY:
            fault = "a UID"
        if fault:  # the value may be a patient's: it is not quoted
            expected = f"{fault} in each line of its column {section.value or 2}"
            raise CoercionError((*path, "table"), section.table, expected)


def _replace(key: str, section: ReplaceSection, path: Path) -> Action:
    target = _changeable(key, path)
    _require_text(target, path, key)
    try:
        checked = re.compile(section.pattern)
        pattern = regex.compile(section.pattern)  # means the same, and its matches can be ended
    except (re.error, regex.error) as error:
        expected = f"a regular expression: {error}"
        raise CoercionError((*path, "pattern"), section.pattern, expected) from None
    try:
        checked.sub(section.by, "")
    except (re.error, IndexError) as error:
        expected = f"a text with groups of the pattern: {error}"
        raise CoercionError((*path, "by"), section.by, expected) from None
    return Replace(target, pattern, section.by)


def _set(key: str, value: str | float | ValueSection, path: Path) -> Action:
    target = _changeable(key, path)
    if target.tag in _IDENTITY:
        raise CoercionError(path, value, "another attribute; this would make objects of one UID")
    vr, plain = (value.vr, value.value) if isinstance(value, ValueSection) else ("", value)
    if vr and target.vr not in ("UN", vr):
        raise CoercionError((*path, "vr"), vr, f"{target.vr}, the VR of {target}")
    if not vr and target.vr == "UN":
        raise CoercionError(path, plain, f'a table with the VR: {{ vr = "LO", value = "{plain}" }}')
    text = str(plain)
    fault = fault_of(text, vr or target.vr)
    if fault:
        raise CoercionError(path, plain, fault)
    return Set(target, text, vr)


def _remove(key: str, path: Path) -> Action:
    target = _changeable(key, path)
    if target.tag in _IDENTITY:
        raise CoercionError(path, key, "an attribute that an object can do without")
    return Remove(target)


def _require_text(target: AttributePath, path: Path, key: str) -> None:
    if target.vr not in SETTABLE_VRS and target.vr != "UN":
        raise CoercionError(path, key, f"an attribute of text or numbers; its VR is {target.vr}")


def _changeable(key: str, path: Path) -> AttributePath:
    target = _attribute(key, path)
    for tag in _tags(target):
        if tag in _NEVER:
            raise CoercionError(path, key, _NEVER[tag])
        if tag <= _LAST_OF_FILES or tag >= _PIXELS or tag & 0xFFFF == 0:
            raise CoercionError(path, key, "an attribute of the dataset before Pixel Data")
    if target.tag in _OF_PIXELS and not target.steps:
        raise CoercionError(path, key, "another attribute; this one says how pixels are encoded")
    return target


def _tags(path: AttributePath) -> Sequence[int]:
    return (*(step.tag for step in path.steps), path.tag)


def _attribute(text: str, path: Path) -> AttributePath:
    try:
        return read_path(text)
    except ValueError as error:
        raise CoercionError(path, text, str(error)) from None
