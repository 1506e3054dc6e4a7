"""Converts objects for a receiver, and keeps one that could not be sent for the next association.

Rules: some receivers end an association that is silent for a minute, and a large object may take
longer to decode. Then it is not decoded again: it goes out over the next association. One that
could not be sent is sent next time whatever the receiver does, so that this has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lfscp.archive.store.object_store import StoredFile
from lfscp.services.transcoding.ahead import Ahead, Wanted
from lfscp.upperlayer.scu.sending import FileSlice, Parts

Body = FileSlice | Parts | bytes


class UnsentError(Exception):
    """The association ended while an object was converted; nothing of it was sent."""


class ConvertedBodies:
    """The converted objects of one retrieve; for one thread."""

    def __init__(self) -> None:
        self._ahead = Ahead(self)
        self._kept = ExitStack()
        self._of: Wanted | None = None
        self._body: Body = b""
        self._unsent: StoredFile | None = None  # perhaps in another transfer syntax

    def prepare(self, wanted: Sequence[Wanted]) -> None:
        """Begin to convert objects that follow; see `Ahead.prepare`."""
        self._ahead.prepare(wanted)

    @contextmanager
    def body(self, wanted: Wanted, look: Callable[[], None]) -> Iterator[tuple[Body, bool]]:
        """A dataset to send, and whether its object could not be sent in the attempt before.

        It is kept if the caller raises UnsentError.

        Args:
            look: as `converted` takes it.
        Raises:
            DecodingError, OSError, ArchiveError: as `converted`.
        """
        is_kept = self._of == wanted
        was_unsent, self._unsent = self._unsent == wanted.path, None
        if not is_kept:
            self._let_go()
        with self._kept.pop_all() as opened:
            body, self._of, self._body = self._body, None, b""
            if not is_kept:
                body = opened.enter_context(self._ahead.converted(wanted, look)).body
            try:
                yield body, was_unsent
            except UnsentError:
                self._kept, self._of, self._body = opened.pop_all(), wanted, body
                self._unsent = wanted.path
                raise

    def close(self) -> None:
        """Let go of what is kept, and of what was prepared."""
        self._let_go()
        self._ahead.close()
        self._ahead = Ahead(self)

    def _let_go(self) -> None:
        self._of, self._body = None, b""
        self._kept.close()
