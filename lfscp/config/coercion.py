"""Declares the settings of a coercion: a rule that changes attributes of objects.

What the texts mean is read in `lfscp.rules.coercion`, which also refuses what cannot be.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from lfscp.config.access import File
from lfscp.config.checks import Bool
from lfscp.config.declaration import Section, setting

Value = str | int | float


def check_name(name: str) -> str:
    """A name that fits into a log line."""
    if not name or len(name) > 64 or not name.isprintable():
        raise ValueError("a name of at most 64 characters")
    return name


class MapSection(Section):
    """Looks a value up in a table."""

    table: File = setting(..., "A CSV file in UTF-8. Its first line names the columns.")
    attribute: str = setting(
        "", "The attribute that is looked up. Empty means the one that gets the value."
    )
    key: str = setting("", "The column with the values. Empty means the first.")
    value: str = setting("", "The column with the new values. Empty means the second.")
    otherwise: Literal["keep", "empty"] = setting(
        "keep", "What happens to a value that is not in the table."
    )


class ReplaceSection(Section):
    """Replaces what a regular expression matches."""

    pattern: str = setting(..., "A regular expression of Python, searched in the value.")
    by: str = setting("", r"What takes the place of each match. \1 is its first group.")


class ValueSection(Section):
    """A value with its VR, for a private attribute."""

    vr: str = setting(..., "The VR.", pattern="^[A-Z]{2}$")
    value: Value = setting(..., "The value.")


class CoercionSection(Section):
    """A rule that changes attributes of objects. There may be several; they apply in order."""

    name: Annotated[str, AfterValidator(check_name)] = setting(
        ..., "A name for log lines, and for routes that use the rule.", live=True
    )
    on_arrival: Bool = setting(
        True,
        "Apply the rule to each object that comes in, before it is stored. With false, only routes "
        "that name it use the rule.",
        live=True,
    )
    when: dict[str, Any] = setting(
        {}, "Which objects it is for, as in [[route]]. Empty means all.", live=True
    )
    keep_original: Bool = setting(
        False,
        "On arrival, also keep the object as it came, until it is deleted with its study.",
        live=True,
    )
    copy_: dict[str, str] = setting(
        {},
        "First: attributes that get the value of another one, if that has a value.",
        live=True,
        alias="copy",
    )
    map: dict[str, MapSection] = setting(
        {},
        "Then: attributes whose value is looked up in a table: table, attribute, key, value, "
        "otherwise.",
        live=True,
    )
    replace: dict[str, ReplaceSection] = setting(
        {},
        "Then: attributes in which a regular expression is replaced: pattern, by.",
        live=True,
    )
    set: dict[str, Value | ValueSection] = setting(
        {}, "Then: attributes that get a fixed value.", live=True
    )
    remove: tuple[str, ...] = setting((), "At last: attributes that are left out.", live=True)
