"""Declares a setting: default, help and flag beside name, type and check."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(
    default: Any,
    text: str,
    *,
    flag: str = "",
    shown: str = "",
    live: bool = False,
    **checks: Any,
) -> Any:
    """Declare one setting.

    Args:
        default: the value when no source gives one; `...` when one must.
        text: help, one or two sentences; the unit is in the setting's name.
        flag: the option of `lfscp serve` that sets it, if there is one.
        shown: what the documents show as the default when it depends on the machine.
        live: whether SIGHUP changes it in a node that runs.
        checks: pydantic's constraints; none that the type has already, since the type's would hold.
    """
    if callable(default):
        checks["default_factory"] = default
    else:
        checks["default"] = default
    extra: dict[str, Any] = {"flag": flag, "shown": shown, "live": live}
    return Field(description=text, json_schema_extra=extra, **checks)


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
