"""The command `doctor`: what is wrong with the node, its machine and its peers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lfscp.cli.options import ConfigFile, DataDir, configure_logging, resolve
from lfscp.cli.terminal import counted, tell, tell_json


def doctor(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="Ask no peer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Say what is wrong with the node, and what to do.

    It looks at ports, rights, disks, clock, peers, database and versions. Nothing is changed, and
    the node may be running. Run it as the user of the node. The exit code is 1 if something is
    wrong; warnings do not count.
    """
    resolved = resolve(config, {"data_dir": data_dir})
    configure_logging(resolved.settings, at_least="critical")
    from lfscp.doctor.examination import examine
    from lfscp.doctor.finding import Verdict

    counts = dict.fromkeys(Verdict, 0)
    for found in examine(resolved, asks_peers=not no_peers):
        counts[found.verdict] += 1
        if as_json:
            tell_json(asdict(found))
            continue
        tell(f"{found.verdict:<8} {found.subject:<9} {found.text}")
        if found.advice:
            tell(f"{'':<18} -> {found.advice}")
    if not as_json:
        warnings = counted(counts[Verdict.WARNING], "warning", "warnings")
        tell(f"{counts[Verdict.WRONG]} wrong, {warnings}")
    raise typer.Exit(1 if counts[Verdict.WRONG] else 0)
