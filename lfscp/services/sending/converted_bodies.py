"""Converts objects for a receiver, and keeps one that could not be sent for the next association.

Rules: some receivers end an association that is silent for a minute, and a large object may take
longer to decode. Then it is not decoded again: it goes out over the next association.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.services.transcoding.decoding import converted
from lfscp.upperlayer.scu.sending import FileSlice, Parts

Body = FileSlice | Parts | bytes


class UnsentError(Exception):
    """The association ended while an object was converted; nothing of it was sent."""


class ConvertedBodies:
    """The converted objects of one retrieve, one at a time; for one thread."""

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._key: tuple[object, ...] = ()
        self._body: Body = b""

    @contextmanager
    def body(
        self, instance: StoredInstance, wanted_syntax: str, look: Callable[[], None], owner: object
    ) -> Iterator[tuple[Body, bool]]:
        """A dataset to send, and whether it was kept from an attempt before.

        It is kept if the caller raises UnsentError.

        Args:
            wanted_syntax, look, owner: as `converted` takes them.
        Raises:
            DecodingError, OSError, ArchiveError: as `converted`.
        """
        key = (instance.path, instance.dataset_offset, instance.size, wanted_syntax)
        is_kept = self._key == key
        if not is_kept:
            self.close()
        with self._kept.pop_all() as opened:
            body, self._key, self._body = self._body, (), b""
            if not is_kept:
                stored = instance.transfer_syntax_uid
                file, offset = instance.path, instance.dataset_offset
                made = converted(file, stored, wanted_syntax, offset, look=look, owner=owner)
                body = opened.enter_context(made).body
            try:
                yield body, is_kept
            except UnsentError:
                self._kept, self._key, self._body = opened.pop_all(), key, body
                raise

    def close(self) -> None:
        """Let go of what is kept."""
        self._key, self._body = (), b""
        self._kept.close()
