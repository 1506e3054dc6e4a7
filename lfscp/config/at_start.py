"""Checks the files of the configuration for a node that starts.

A running node reads its settings again also while a file is away. Whoever needs the file then says
that it is missing.
"""

from __future__ import annotations

import os
from pathlib import Path

from lfscp.config.peer_secrets import read_secret
from lfscp.config.sources import ConfigError, Resolved, complaint


def require_worklist_folder(resolved: Resolved) -> None:
    """Refuse a folder of worklist files that is not there; for a node that starts.

    A running one reads its settings again also while a volume is away.

    Raises:
        ConfigError: it is not there, or cannot be read.
    """
    folder = resolved.settings.worklist.folder
    if folder and not (Path(folder).is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        path = ("worklist", "folder")
        expected = "a folder that is there and that the node may read"
        raise ConfigError(complaint(resolved.origin(path), path, folder, expected))


def require_peer_secrets(resolved: Resolved) -> None:
    """Refuse a file of a peer's password or token that cannot be used; for a node that starts.

    In a running one, the job that needs the file fails with the reason.

    Raises:
        ConfigError: it is not there, cannot be read, or has no secret in its first line.
    """
    for title, peer in resolved.settings.peers.items():
        for key in ("password_file", "token_file"):
            file = getattr(peer, key)
            try:
                if file:
                    read_secret(file)
            except (OSError, ValueError) as error:
                path = ("peers", title, key)
                words = error.strerror if isinstance(error, OSError) else str(error)
                expected = f"a file with the secret in its first line: {words}"
                raise ConfigError(complaint(resolved.origin(path), path, file, expected)) from None
