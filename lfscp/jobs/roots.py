"""Checks that jobs and the page use only folders below the configured roots."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lfscp.jobs.request import InvalidRequestError


def allowed_folder(path: str | Path, roots: Sequence[Path], name: str = "folder") -> Path:
    """A writable folder below one of the roots; see `allowed_path`.

    Raises:
        InvalidRequestError: it is outside the roots, is not there, or cannot be written.
    """
    folder = allowed_path(path, roots, name)
    if not folder.is_dir():
        raise InvalidRequestError(name, f"{path} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidRequestError(name, f"{path} cannot be written into; see its permissions")
    return folder


def allowed_path(path: str | Path, roots: Sequence[Path], name: str = "path") -> Path:
    """A path below one of the roots, links followed.

    Args:
        path: absolute, or relative to the only root.
        roots: web.roots.
        name: of the field with the path.
    Raises:
        InvalidRequestError: it is outside the roots, or is not there.
    """
    text = str(path)
    if "\0" in text or not text:
        raise InvalidRequestError(name, "expected the path of a file or folder")
    given = Path(text)
    if not given.is_absolute() and len(roots) == 1:
        given = roots[0] / given
    try:
        real = given.resolve()
        inside = any(real.is_relative_to(root.resolve()) for root in roots)
        found = inside and real.exists()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise InvalidRequestError(name, f"{text} cannot be read: {error}") from None
    if not inside:
        # The message does not tell whether it exists.
        known = ", ".join(map(str, roots)) or "none; set web.roots"
        raise InvalidRequestError(name, f"{text} is outside the folders that may be used: {known}")
    if not found:
        raise InvalidRequestError(name, f"{text}: there is no such file or folder")
    return real


def with_real_paths(
    parameters: Mapping[str, Any], roots: Sequence[Path], own_title: str
) -> dict[str, Any]:
    """The parameters of a job, their paths absolute and links followed.

    Args:
        parameters: of a request; `paths` and `folder` may be missing.
        roots: web.roots.
        own_title: the AE title of this node; no other destination brings objects into a folder.
    Raises:
        InvalidRequestError: a path may not be used.
    """
    real = dict(parameters)
    if real.get("paths"):
        real["paths"] = [
            str(allowed_path(path, roots, f"parameters.paths.{number}"))
            for number, path in enumerate(real["paths"])
        ]
    if real.get("folder"):
        real["folder"] = str(allowed_folder(real["folder"], roots, "parameters.folder"))
        if real.get("destination", own_title) != own_title:
            reason = "objects that go to another destination do not come here"
            raise InvalidRequestError("parameters.folder", reason)
    return real
