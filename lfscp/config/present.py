"""Checks at the start that the files and folders which settings name are there.

A running node that reads its settings again does not ask: a volume may be away for a moment.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.config.sources import ConfigError, KeyPath, Resolved, complaint

if TYPE_CHECKING:
    from lfscp.config.oidc import OIDC

MAX_SECRET_BYTES: Final = 4096


def require_present(resolved: Resolved) -> None:
    """Refuse settings that name a file or folder which cannot be used.

    Raises:
        ConfigError: one cannot; the line names source, key and what was expected.
    """
    folder = resolved.settings.worklist.folder
    if folder and not (Path(folder).is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        expected = "a folder that is there and that the node may read"
        raise _wrong(resolved, ("worklist", "folder"), folder, expected)
    if resolved.settings.web.enabled:
        _require_files_of_provider(resolved, resolved.settings.web.oidc)


def _require_files_of_provider(resolved: Resolved, oidc: OIDC) -> None:
    if oidc.client_secret_file:
        try:
            read_secret(oidc.client_secret_file)
        except (OSError, ValueError):
            path = ("web", "oidc", "client_secret_file")
            expected = "a file that the node may read, with the secret as its first line"
            raise _wrong(resolved, path, oidc.client_secret_file, expected) from None
    if oidc.ca_file:
        try:
            ssl.create_default_context(cafile=oidc.ca_file)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            expected = "a file that the node may read, with certificates in PEM"
            path = ("web", "oidc", "ca_file")
            raise _wrong(resolved, path, oidc.ca_file, expected) from None


def read_secret(file: str) -> str:
    """The first line of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty, or no text.
    """
    with Path(file).open("rb") as opened:
        line, _, _ = opened.read(MAX_SECRET_BYTES).partition(b"\n")
    secret = line.strip().decode()
    if not secret:
        raise ValueError("the file has no secret in its first line")
    return secret


def _wrong(resolved: Resolved, path: KeyPath, value: str, expected: str) -> ConfigError:
    return ConfigError(complaint(resolved.origin(path), path, value, expected))
