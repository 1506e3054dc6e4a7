"""Reads the table `when` of the configuration, and says what in it cannot be.

A key is the keyword of an attribute ("Modality"), its tag ("0008,0060"), or one of `SENDER`. A
value is text (a wildcard if it has * or ?), a number, a list of these, or a table: `equals`,
`matches`, `one_of`, `from` and `to`, or `present`; `ignore_case` beside the first three. The table
of a sequence has conditions for its items. `all`, `any` and `not` combine. All keys must hold.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword

from lfscp.dicom.values.attributes import TEXT_VRS
from lfscp.rules.conditions.attributes import NUMBER_VRS
from lfscp.rules.conditions.comparisons import (
    Comparison,
    between,
    equal,
    exactly,
    one_of,
    wildcard,
)
from lfscp.rules.conditions.condition import (
    All,
    Any,
    Condition,
    IsPresent,
    Not,
    OfAttribute,
    OfItems,
    OfSender,
)
from lfscp.rules.conditions.errors import ConditionError
from lfscp.rules.conditions.subject import Subject

Path = tuple[str, ...]

SENDER: Final[Mapping[str, tuple[str, Callable[[Subject], str]]]] = {
    "calling_ae_title": ("AE", lambda subject: subject.calling_ae_title),
    "called_ae_title": ("AE", lambda subject: subject.called_ae_title),
    "address": ("address", lambda subject: subject.address),
    "TransferSyntaxUID": ("UI", lambda subject: subject.transfer_syntax_uid),
}
_COMBINED: Final = ("all", "any", "not")
_OPERATORS: Final = ("equals", "matches", "one_of", "from", "to", "present", "ignore_case")
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_PIXELS: Final = 0x7FE00000
_LAST_OF_FILES: Final = 0x0007FFFF  # groups of commands, file meta information, directories
_MAX_DEPTH: Final = 20
_KEYWORDS: Final = tuple(keyword_dict)


def read_condition(table: object, path: Path = ()) -> Condition:
    """Make a condition of a table of the configuration.

    Args:
        table: as TOML gives it; an empty table is met by every object.
        path: the keys that lead to it, for errors.
    Raises:
        ConditionError: it cannot be; names the key and what was expected.
    """
    if not isinstance(table, Mapping):
        raise ConditionError(path, table, 'a table, such as { Modality = "CT" }')
    if len(path) > _MAX_DEPTH:
        raise ConditionError(path, table, f"a condition nested at most {_MAX_DEPTH} deep")
    conditions = [_read_key(key, value, (*path, key)) for key, value in table.items()]
    return conditions[0] if len(conditions) == 1 else All(tuple(conditions))


def _read_key(key: str, value: object, path: Path) -> Condition:
    if key in _COMBINED:
        return _read_combined(key, value, path)
    if key in SENDER:
        vr, read = SENDER[key]
        return OfSender(key, _read_comparison(value, vr, path), read)
    tag = _tag_of(key, path)
    name, vr = keyword_for_tag(tag) or key, _vr_of(tag)
    if isinstance(value, Mapping) and "present" in value:
        return _read_present(value, name, tag, vr, path)
    if vr == "SQ":
        if not isinstance(value, Mapping) or not value:
            raise ConditionError(path, value, "a table with conditions for the items")
        return OfItems(name, tag, read_condition(value, path))
    if vr not in TEXT_VRS and vr not in NUMBER_VRS and not vr.startswith("US or SS"):
        raise ConditionError(path, value, f"{{ present = true }} or false, as its VR is {vr}")
    return OfAttribute(name, _read_comparison(value, vr, path), tag, vr)


def _read_combined(key: str, value: object, path: Path) -> Condition:
    if key == "not":
        if not isinstance(value, Mapping) or not value:
            raise ConditionError(path, value, "a table with the condition that must not hold")
        return Not(read_condition(value, path))
    if not isinstance(value, list | tuple) or not value:
        raise ConditionError(path, value, "a list of tables, at least one")
    tables = [read_condition(each, (*path, str(at))) for at, each in enumerate(value)]
    for at, each in enumerate(value):
        if not each:
            raise ConditionError((*path, str(at)), each, "a table that is not empty")
    return All(tuple(tables)) if key == "all" else Any(tuple(tables))


def _read_present(
    value: Mapping[str, object], name: str, tag: int, vr: str, path: Path
) -> Condition:
    wanted = value["present"]
    if not isinstance(wanted, bool):
        raise ConditionError((*path, "present"), wanted, "true or false")
    if len(value) > 1:
        other = next(key for key in value if key != "present")
        raise ConditionError((*path, other), value[other], "nothing beside present")
    return IsPresent(name, tag, vr, wanted)


def _read_comparison(value: object, vr: str, path: Path) -> Comparison:
    vr = "US" if vr.startswith("US or SS") else vr
    try:
        if isinstance(value, list | tuple):
            return _read_list(value, path, lambda each: equal(each, vr))
        if isinstance(value, Mapping):
            return _read_operators(value, vr, path)
        return equal(value, vr)
    except ConditionError:
        raise
    except ValueError as error:
        raise ConditionError(path, value, str(error)) from None


def _read_list(values: object, path: Path, make: Callable[[object], Comparison]) -> Comparison:
    if not isinstance(values, list | tuple) or not values:
        raise ConditionError(path, values, "a list with at least one value")
    made = []
    for at, value in enumerate(values):
        try:
            made.append(make(value))
        except ValueError as error:
            raise ConditionError((*path, str(at)), value, str(error)) from None
    return one_of(made)


def _read_operators(value: Mapping[str, object], vr: str, path: Path) -> Comparison:
    for key in value:
        if key not in _OPERATORS or key == "present":
            expected = f"one of {', '.join(_OPERATORS)}{_nearest(key, _OPERATORS)}"
            raise ConditionError((*path, key), value[key], expected)
    ignore_case = value.get("ignore_case", False)
    if not isinstance(ignore_case, bool):
        raise ConditionError((*path, "ignore_case"), ignore_case, "true or false")
    asked = [key for key in ("equals", "matches", "one_of") if key in value]
    asked += ["from"] if "from" in value or "to" in value else []
    if len(asked) != 1:
        raise ConditionError(path, dict(value), "one of equals, matches, one_of, or from and to")
    key = asked[0]
    try:
        return _operator(key, value, vr, (*path, key), ignore_case)
    except ConditionError:
        raise
    except ValueError as error:
        raise ConditionError((*path, key), value.get(key), str(error)) from None


def _operator(
    key: str, value: Mapping[str, object], vr: str, path: Path, ignore_case: bool
) -> Comparison:
    if key == "from":
        return between(value.get("from"), value.get("to"), vr)
    if vr == "address":
        raise ValueError("an address, a network, or a list of them, without a table around it")
    if key == "one_of":
        return _read_list(value[key], path, lambda each: exactly(each, vr, ignore_case=ignore_case))
    if key == "equals":
        return exactly(value[key], vr, ignore_case=ignore_case)
    pattern = value[key]
    if not isinstance(pattern, str) or not pattern or vr in NUMBER_VRS:
        raise ValueError("a text with * or ?, of an attribute that is text")
    return wildcard(pattern, vr, ignore_case=ignore_case)


def _tag_of(key: str, path: Path) -> int:
    match = _TAG.fullmatch(key)
    tag = int(match[1] + match[2], 16) if match else tag_for_keyword(key)
    if tag is None:
        known = (*SENDER, *_COMBINED)
        near = _nearest(key, (*_KEYWORDS, *known))
        expected = f"the keyword or tag of an attribute, or one of {', '.join(known)}{near}"
        raise ConditionError(path, key, expected)
    if tag >= _PIXELS or tag <= _LAST_OF_FILES:
        raise ConditionError(path, key, "an attribute of the dataset before Pixel Data")
    return tag


def _vr_of(tag: int) -> str:
    """By the data dictionary; a private attribute is text unless the dataset says otherwise."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "LO"


def _nearest(key: str, names: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""
