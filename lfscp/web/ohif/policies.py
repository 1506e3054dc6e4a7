"""Tells which headers the files of OHIF need: content types, policies, how long they may be kept.

Only the start page runs inline scripts, those that were there when it was installed. A worker has
the policy of its own answer: the one that decodes pictures makes code from text (`'unsafe-eval'`),
nothing else may.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from typing import Final

_PAGE: Final = (
    "default-src 'none'",
    "style-src 'self' 'unsafe-inline'",
    "font-src 'self'",
    "img-src 'self' data: blob:",
    "media-src 'self' blob:",
    "worker-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "object-src 'self' blob:",  # documents
    "frame-src 'self' blob:",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'",
)
# A file by itself: a worker's script, or a picture that somebody opens.
_FILE: Final = ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'")
_YEAR: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_WITH_DIGEST: Final = re.compile(r"(.*\.bundle\.)?[0-9a-f]{16}\.(js|wasm|woff2)")
_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}


def page_policy(script_hashes: Sequence[str]) -> str:
    """The Content-Security-Policy of the start page.

    Args:
        script_hashes: of its inline scripts.
    """
    sources = " ".join(("'self'", *script_hashes))
    return "; ".join((f"script-src {sources}", *_PAGE))


def file_policy(*, may_evaluate: bool) -> str:
    """The Content-Security-Policy of another file.

    Args:
        may_evaluate: whether it is a worker that makes code from text.
    """
    sources = "'self' 'unsafe-eval'" if may_evaluate else "'self'"
    return "; ".join((f"script-src {sources}", *_FILE))


def media_type(name: str) -> str:
    """The content type of a file, by the end of its name."""
    suffix = name[name.rfind(".") :]
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def cache_control(name: str) -> str:
    """How long a browser may keep a file: for ever, if a digest of it is in its name."""
    return _YEAR if _WITH_DIGEST.fullmatch(name) else _ASK_AGAIN
