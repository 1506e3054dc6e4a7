"""Watches the worklist folder in a thread of one process of the node.

The system tells of files that are written in place, which no time of a folder shows. On a network
file system it tells nothing of what other machines do, so all files are compared once a minute too.

Rules: nothing here ends the node; a failure is logged once and tried again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from lfscp.errors import OperationError
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder

LOG: Final = get_logger("lfscp.worklist")
_LOOK_MS: Final = 1000  # how often it looks whether there is something to do besides changes
_STEP_MS: Final = 100  # without a further change, after which those before are looked at
_TOGETHER_MS: Final = 1000  # after which they are looked at in any case
_COMPARE_S: Final = 60.0
_AGAIN_S: Final = 10.0  # after a failure, or while the folder is away
_STOP_S: Final = 10.0
_NO_UTF_8: Final = "Unable to decode path"


class FolderWatch:
    """The thread that watches a folder, until `stop`."""

    def __init__(self, folder: WorklistFolder) -> None:
        self._folder = folder
        self._stopping = threading.Event()
        self._compared_at = 0.0
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="lfscp-worklist", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, once a comparison that is being made has ended."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._folder.compare()
                if self._folder.folders:
                    self._watch(self._folder.folders)
                else:
                    self._stopping.wait(_AGAIN_S)
            except (OperationError, OSError) as error:
                self._fail(str(error))
            except Exception as error:  # the node goes on
                LOG.error("the worklist folder is not watched", exc_info=error)  # noqa: TRY400 - our own logger
                self._stopping.wait(_AGAIN_S)

    def _watch(self, folders: dict[str, str]) -> None:
        """Compare when something changes, until there are other folders to watch."""
        from watchfiles import watch  # slow to import, and few nodes need it

        changes = watch(
            *folders,
            watch_filter=None,
            debounce=_TOGETHER_MS,
            step=_STEP_MS,
            stop_event=self._stopping,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        )
        is_first = True  # what came before the system began to tell
        try:
            for changed in changes:
                if changed or is_first or self._is_due():
                    self._folder.compare()
                    self._compared_at = time.monotonic()
                    self._said = ""
                is_first = False
                if self._folder.folders != folders:
                    return
        except RuntimeError as error:
            # Relied on: watchfiles' error of a changed file whose name is no UTF-8. It has ended
            # its watch with that; the caller compares, and begins another.
            if _NO_UTF_8 not in str(error):
                raise

    def _is_due(self) -> bool:
        since_s = time.monotonic() - self._compared_at
        return since_s > _COMPARE_S or not self._folder.is_settled

    def _fail(self, reason: str) -> None:
        if reason != self._said:
            LOG.warning(
                "the worklist folder is not watched, trying again",
                reason=reason,
                effect="files that are written in place are seen later",
            )
            self._said = reason
        self._stopping.wait(_AGAIN_S)
