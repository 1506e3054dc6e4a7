"""The command `plugins`: show the plug-ins that a node would use."""

from __future__ import annotations

import sys

from lfscp.cli.options import ConfigFile, resolve


def plugins(config: ConfigFile = None) -> None:
    """List the plug-ins: name, source, hooks.

    The command loads them as a node does, so it also says what is wrong with one.
    """
    from lfscp.plugins.loading import load

    found = load(resolve(config).settings.plugins)
    if not found:
        sys.stdout.write("no plug-ins\n")
    for each in found:
        sys.stdout.write(f"{each.name}\t{each.source}\t{', '.join(each.hooks)}\n")
