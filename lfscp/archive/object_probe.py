"""Checks the rights on an object store by using them, in a process of its own: `check_rights`.

A tiny object is put, must not be put again, is read, listed and deleted. The second put tells
whether the store heeds `If-None-Match: *`; one that does not would let two nodes write over each
other's objects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import asdict
from typing import Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.s3_client import S3Options, connect, hint_for, reason_of

PROBES: Final = ".lfscp"  # below the prefix; no object is ever found there
_CONTENT: Final = b"lfscp looks whether it may write here"
_OVERHEAD_S: Final = 30.0  # for the process to start on a busy machine
_REQUESTS: Final = 6


def check_rights(options: S3Options) -> None:
    """Try out every right that the archive needs; in another process, so that this one may fork.

    Raises:
        ArchiveError: one is missing, or the store cannot be used.
    """
    timeout_s = _OVERHEAD_S + 2 * _REQUESTS * options.timeout_s
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "lfscp.archive.object_probe"],
            input=json.dumps(asdict(options)),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        lines = ended.stdout.splitlines()
        said: list[str] = json.loads(lines[-1]) if lines else ["the check of its rights ended", ""]
    except (subprocess.TimeoutExpired, ValueError):
        said = ["the object store does not answer in time", "check objects.endpoint"]
    if said:
        raise ArchiveError(f"use {options.url} for objects", said[0], said[1])


def probe(options: S3Options) -> None:
    """Put, put again, read, list, delete.

    Raises:
        ArchiveError: the store cannot be used; its reason says at what.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError

    client = connect(options)
    key = f"{PROBES}/{uuid.uuid4().hex}"
    doing = "written"
    try:
        client.put(key, _CONTENT, mode="create", use_multipart=False)
        try:
            client.put(key, _CONTENT, mode="create", use_multipart=False)
        except AlreadyExistsError:
            refused = True
        else:
            refused = False
        doing = "read"
        is_same = bytes(client.get(key).bytes()) == _CONTENT
        doing = "listed"
        listed = any(each["path"] == key for chunk in client.list(PROBES) for each in chunk)
        doing = "deleted"
        client.delete(key)
    except (BaseError, OSError) as error:
        raise ArchiveError(
            "use", f"a test object cannot be {doing}: {reason_of(error)}", hint_for(error)
        ) from None
    if not refused:
        raise ArchiveError(
            "use",
            "it ignores If-None-Match, so nodes could write over each other's objects",
            "use a store with conditional writes",
        )
    if not (is_same and listed):
        raise ArchiveError("use", "it does not give back what was just put", "use another store")


def main() -> None:
    """Probe what standard input names; write the reason and a hint, or an empty list."""
    try:
        probe(S3Options(**json.load(sys.stdin)))
    except ArchiveError as error:
        said = [error.reason, error.hint]
    else:
        said = []
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
