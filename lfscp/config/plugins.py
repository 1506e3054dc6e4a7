"""The settings of plug-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from lfscp.config.checks import Int, ListOf, Seconds
from lfscp.config.declaration import Section, setting


def check_plugin_file(text: str) -> str:
    """The file of a plug-in as an absolute path."""
    if not text.endswith(".py") or "\0" in text:
        raise ValueError('the path of a Python file, as "/etc/lfscp/plugins/webhook.py"')
    return str(Path(text).expanduser().absolute())


PluginFile = Annotated[str, AfterValidator(check_plugin_file)]


class PluginsSection(Section):
    """Plug-ins: Python code that decides, is told, or adds to the node (config/plugins.md)."""

    files: ListOf[PluginFile] = setting(
        (),
        "Python files that are plug-ins. The name of a plug-in is that of its file. Installed "
        "packages with an entry point in the group lfscp.plugins are plug-ins too.",
        live=True,
    )
    disabled: ListOf[str] = setting(
        (), "Names of installed plug-ins that the node is not to use.", live=True
    )
    settings: dict[str, dict[str, Any]] = setting(
        dict,
        "Settings of plug-ins, a table for each by its name, as [plugins.settings.webhook].",
        shown="{}",
        live=True,
    )
    decision_timeout_s: Seconds = setting(
        2.0,
        "How long the node waits for a plug-in to decide (may_store, may_find, before_send), in "
        "seconds.",
        live=True,
    )
    on_failure: Literal["allow", "refuse"] = setting(
        "allow",
        "What happens when a plug-in raises, or does not decide in time. refuse: a store gets "
        "0xA700, so that its sender tries again.",
        live=True,
    )
    study_quiet_s: Seconds = setting(
        60.0,
        "A study is complete for plug-ins (study_complete) if nothing of it came for this long, in "
        "seconds. Routes have a quiet_s of their own.",
        live=True,
    )
    queue_size: Annotated[Int, Field(ge=1, le=10_000_000)] = setting(
        10_000,
        "Most events that wait for one plug-in in one process. What comes on top is lost for this "
        "plug-in, counted and logged.",
    )
    hang_s: Seconds = setting(
        60.0,
        "A call of a plug-in that lasts longer than this, in seconds, is named in the log as "
        "hanging. It is also the longest wait for a route_action.",
        live=True,
    )
    stop_timeout_s: Seconds = setting(
        5.0,
        "How long plug-ins may still hear what waits for them when the node stops, in seconds.",
        live=True,
    )
