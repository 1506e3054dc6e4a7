"""Runs a node as the settings say: in one process, or in several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lfscp.node.handover import take_over
from lfscp.node.single_process import SingleProcess
from lfscp.node.supervisor import Supervisor
from lfscp.observe.open_files import allow_most_open_files

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.node.reload import ReadSettings


def run_node(
    settings: Settings, read_settings: ReadSettings | None = None, *, follow_on: bool = False
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        read_settings: reads them again, at SIGHUP.
        follow_on: take over from the node that runs on the data folder, if there is one.
    Returns:
        The exit code.
    Raises:
        ConfigError, NodeError, ArchiveError, SystemdError: the node cannot start.
    """
    allow_most_open_files()
    taken = take_over(settings.data_dir) if follow_on else None
    workers = settings.pool.workers or max(1, len(os.sched_getaffinity(0)) // 2)
    if workers == 1:
        return SingleProcess(settings, read_settings, taken).run()
    return Supervisor(settings, workers, read_settings, taken).run()
