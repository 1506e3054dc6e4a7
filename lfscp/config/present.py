"""Checks at the start that the files and folders which settings name are there.

A running node that reads its settings again does not ask: a volume may be away for a moment.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.config.peer_secrets import read_secret
from lfscp.config.sources import ConfigError, KeyPath, Resolved, complaint

if TYPE_CHECKING:
    from lfscp.config.oidc import OIDC


def require_present(resolved: Resolved) -> None:
    """Refuse settings that name a file or folder which cannot be used.

    Raises:
        ConfigError: one cannot; each line names source, key and what was expected.
    """
    complaints = list(_complaints(resolved))
    if complaints:
        raise ConfigError(*complaints)


def _complaints(resolved: Resolved) -> Iterator[str]:
    settings = resolved.settings
    folder = settings.worklist.folder
    if folder and not (Path(folder).is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        expected = "a folder that is there and that the node may read"
        yield _wrong(resolved, ("worklist", "folder"), folder, expected)
    for title, peer in settings.peers.items():
        for key in ("password_file", "token_file"):
            yield from _without_secret(resolved, ("peers", title, key), getattr(peer, key))
    if settings.web.enabled:
        yield from _of_provider(resolved, settings.web.oidc)


def _of_provider(resolved: Resolved, oidc: OIDC) -> Iterator[str]:
    path = ("web", "oidc", "client_secret_file")
    yield from _without_secret(resolved, path, oidc.client_secret_file)
    if oidc.ca_file:
        try:
            ssl.create_default_context(cafile=oidc.ca_file)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            expected = "a file that the node may read, with certificates in PEM"
            yield _wrong(resolved, ("web", "oidc", "ca_file"), oidc.ca_file, expected)


def _without_secret(resolved: Resolved, path: KeyPath, file: str) -> Iterator[str]:
    """Complain of a file without a secret in its first line; an empty name is none."""
    try:
        if file:
            read_secret(file)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        expected = f"a file with the secret in its first line: {words}"
        yield _wrong(resolved, path, file, expected)


def _wrong(resolved: Resolved, path: KeyPath, value: str, expected: str) -> str:
    return complaint(resolved.origin(path), path, value, expected)
