"""Checks at the start that the files and folders which settings name are there.

A running node that reads its settings again does not ask: a volume may be away for a moment.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.config.peer_secrets import read_secret
from lfscp.config.sources import ConfigError, KeyPath, Resolved, complaint

if TYPE_CHECKING:
    from lfscp.config.oidc import OIDC


def require_present(resolved: Resolved) -> None:
    """Refuse settings that name a file or folder which cannot be used.

    Raises:
        ConfigError: one cannot; the line names source, key and what was expected.
    """
    folder = resolved.settings.worklist.folder
    if folder and not (Path(folder).is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        expected = "a folder that is there and that the node may read"
        raise _wrong(resolved, ("worklist", "folder"), folder, expected)
    _require_secrets_of_peers(resolved)
    if resolved.settings.web.enabled:
        _require_files_of_provider(resolved, resolved.settings.web.oidc)


def _require_secrets_of_peers(resolved: Resolved) -> None:
    for title, peer in resolved.settings.peers.items():
        for key in ("password_file", "token_file"):
            _require_secret(resolved, ("peers", title, key), getattr(peer, key))


def _require_files_of_provider(resolved: Resolved, oidc: OIDC) -> None:
    _require_secret(resolved, ("web", "oidc", "client_secret_file"), oidc.client_secret_file)
    if oidc.ca_file:
        try:
            ssl.create_default_context(cafile=oidc.ca_file)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            expected = "a file that the node may read, with certificates in PEM"
            path = ("web", "oidc", "ca_file")
            raise _wrong(resolved, path, oidc.ca_file, expected) from None


def _require_secret(resolved: Resolved, path: KeyPath, file: str) -> None:
    """Refuse a file without a secret in its first line; an empty name is none."""
    try:
        if file:
            read_secret(file)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        expected = f"a file with the secret in its first line: {words}"
        raise _wrong(resolved, path, file, expected) from None


def _wrong(resolved: Resolved, path: KeyPath, value: str, expected: str) -> ConfigError:
    return ConfigError(complaint(resolved.origin(path), path, value, expected))
