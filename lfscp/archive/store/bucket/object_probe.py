"""Checks the rights on an object store and whose objects it has, in a process of its own.

A tiny object is put, must not be put again, is read, listed and deleted. The second put tells
whether the store heeds `If-None-Match: *`; one that does not would let two nodes write over each
other's objects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.bucket.s3_client import S3Options, connect, hint_for, reason_of
from lfscp.archive.store.identity import Known, recognise

PROBES: Final = ".lfscp"  # below the prefix; no object is ever found there
BUCKET_IDENTITY: Final = f"{PROBES}/objects"
_CONTENT: Final = b"lfscp looks whether it may write here"
_OVERHEAD_S: Final = 30.0  # for the process to start on a busy machine
_REQUESTS: Final = 30


def recognise_bucket(options: S3Options, index_knows: Known) -> str:
    """Try out every right that the archive needs, and look whether the bucket is an index's.

    It is done in another process, so that this one may fork.

    Returns:
        The identity of the bucket; see `store.identity`.
    Raises:
        ArchiveError: a right is missing, the store cannot be used, or it is another's.
    """
    timeout_s = _OVERHEAD_S + 2 * _REQUESTS * options.timeout_s
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "lfscp.archive.store.bucket.object_probe"],
            input=json.dumps([asdict(options), asdict(index_knows)]),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        lines = ended.stdout.splitlines()
        said: Any = json.loads(lines[-1]) if lines else ["the check of its rights ended", ""]
    except (subprocess.TimeoutExpired, ValueError):
        said = ["the object store does not answer in time", "check objects.endpoint"]
    if isinstance(said, str):
        return said
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


class _Bucket:
    """A bucket with its prefix; see `identity.ObjectsPlace`."""

    identity_name = BUCKET_IDENTITY

    def __init__(self, options: S3Options) -> None:
        self.name = options.url
        self._client = connect(options)

    def read(self) -> str:
        try:
            return bytes(self._client.get(BUCKET_IDENTITY).bytes()).decode("ascii", "replace")
        except FileNotFoundError:
            return ""

    def make(self, identity: str) -> str:
        from obstore.exceptions import AlreadyExistsError

        with suppress(AlreadyExistsError):
            self._client.put(BUCKET_IDENTITY, identity.encode(), mode="create", use_multipart=False)
        return self.read()

    def count(self, paths: Sequence[str]) -> int:
        return sum(map(self._has, paths))

    def how_to_accept(self, identity: str) -> str:
        return f"put {identity} as the object {BUCKET_IDENTITY}"

    def _has(self, path: str) -> bool:
        try:
            self._client.head(path)
        except FileNotFoundError:
            return False
        return True


def _look(options: S3Options, index_knows: Known) -> str:
    from obstore.exceptions import BaseError

    probe(options)
    try:
        return recognise(_Bucket(options), index_knows)
    except (BaseError, OSError) as error:
        reason = f"its identity cannot be read or written: {reason_of(error)}"
        raise ArchiveError("use", reason, hint_for(error)) from None


def main() -> None:
    """Probe what standard input names; write the identity, or a list of reason and hint."""
    options, index_knows = json.load(sys.stdin)
    said: str | list[str]
    try:
        said = _look(S3Options(**options), Known(**index_knows))
    except ArchiveError as error:
        said = [error.reason, error.hint]
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
