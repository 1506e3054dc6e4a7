"""Folders that jobs and the web page may use: below the configured roots only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lfscp.jobs.model import InvalidRequest


def allowed_path(path: str | Path, roots: Sequence[Path]) -> Path:
    """A path below one of the roots, links followed.

    Args:
        path: absolute, or relative to the only root.
        roots: web.roots.
    Raises:
        InvalidRequest: it is outside, or is not there.
    """
    text = str(path)
    if "\0" in text or not text:
        raise InvalidRequest("path", "expected the path of a file or folder")
    given = Path(text)
    if not given.is_absolute() and len(roots) == 1:
        given = roots[0] / given
    try:
        real = given.resolve()
        inside = any(real.is_relative_to(root.resolve()) for root in roots)
        found = inside and real.exists()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise InvalidRequest("path", f"{text} cannot be read: {error}") from None
    if not inside:
        # Whether it exists is nobody's business.
        known = ", ".join(map(str, roots)) or "none; set web.roots"
        raise InvalidRequest("path", f"{text} is outside the folders that may be used: {known}")
    if not found:
        raise InvalidRequest("path", f"{text}: there is no such file or folder")
    return real
