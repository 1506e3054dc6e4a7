"""`lfscp retention`, `protect` and `unprotect`: what goes by itself, and what never does."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.archive import INDEX_FILE
from lfscp.archive.errors import ArchiveError, ArchiveInUseError
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import JUMP_MS
from lfscp.archive.index.database import reason_of, sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.node_id import node_id
from lfscp.archive.upkeep.retention import Candidate, Retention, candidates, now_ms, usage
from lfscp.cli.archive import require_index
from lfscp.cli.failures import CommandError
from lfscp.node.parts import begin_trail, open_archive, retention_limits
from lfscp.observe import audit

if TYPE_CHECKING:
    from lfscp.config import Settings


def show_candidates(settings: Settings) -> int:
    """Print what has to go now, the first one first; nothing is deleted.

    Raises:
        CommandError, ArchiveError: the index cannot be read.
    """
    limits = retention_limits(settings)
    if not limits.is_any:
        raise CommandError("nothing is limited; set retention.max_gb, max_age_days or max_studies")
    studies = instances = size = 0
    index = _index(settings)
    try:
        clock = _clock(settings, index)
        old_ms = clock.peek()
        with index.engine.connect() as connection:
            for each in candidates(connection, limits, usage(connection), now_ms(), old_ms):
                studies, instances, size = (
                    studies + 1,
                    instances + each.instances,
                    size + each.bytes,
                )
                sys.stdout.write(_line(each))
    except SQLAlchemyError as error:
        raise ArchiveError("read the index", reason_of(error)) from None
    finally:
        index.close()
    _say_when_not_trusted(old_ms)
    sys.stdout.write(
        f"{studies} studies with {instances} instances, {size / 1e6:.1f} MB, would go\n"
    )
    return 0


def _line(study: Candidate) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(study.updated_at / 1000))
    size = f"{study.instances} instances, {study.bytes / 1e6:.1f} MB"
    return f"{study.study_uid}  {size}, received until {day}, goes for: {study.reason}\n"


def recycle_now(settings: Settings) -> int:
    """Delete what has to go now; for an archive whose node is stopped.

    Raises:
        CommandError, ArchiveError: it cannot be done.
    """
    limits = retention_limits(settings)
    if not limits.is_any:
        raise CommandError("nothing is limited; set retention.max_gb, max_age_days or max_studies")
    require_index(settings)
    try:
        archive = open_archive(settings)
    except ArchiveInUseError as error:
        every = f"{settings.retention.interval_s:g} s"
        raise CommandError(f"{error.reason}, and does this itself every {every}") from error
    with archive:
        begin_trail(settings)
        retention = Retention(archive, limits, lambda gone, _: _tell_gone(gone))
        try:
            gone = retention.run()
        except SQLAlchemyError as error:
            raise ArchiveError("write to the index", reason_of(error)) from None
        finally:
            audit.stop()
        _say_when_not_trusted(archive.trusted_ms())
    sys.stdout.write(f"{gone} studies deleted\n")
    return 0


def trust_clock(settings: Settings) -> int:
    """Trust the clock as it is now; also while the node runs.

    Raises:
        CommandError, ArchiveError: there is no index, or it cannot be written to.
    """
    index = _index(settings)
    try:
        _clock(settings, index).confirm()
    except (SQLAlchemyError, OSError) as error:
        raise ArchiveError("write to the index", reason_of(error)) from None
    finally:
        index.close()
    sys.stdout.write(f"the clock is trusted: it is {_shown(now_ms())} UTC\n")
    return 0


def _clock(settings: Settings, index: Index) -> Clock:
    return Clock(index=index, node=node_id(settings.data_dir) if index.is_shared else "")


def _say_when_not_trusted(old_ms: int) -> None:
    if now_ms() - old_ms > JUMP_MS:
        sys.stdout.write(
            f"the clock is not trusted: ages are counted until {_shown(old_ms)} UTC; if it is "
            "right, run `lfscp retention --clock-is-right`\n"
        )


def _shown(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms / 1000))


def _tell_gone(study: Candidate) -> None:
    sys.stdout.write(_line(study))


def set_protection(settings: Settings, study_uid: str, *, on: bool) -> int:
    """Protect a study, or protect it no longer; also while the node runs.

    Raises:
        CommandError, ArchiveError: there is no such study, or the index cannot be written to.
    """
    from lfscp.archive.index.protection import protect, unprotect

    index = _index(settings)
    try:
        done = (protect if on else unprotect)(index, study_uid)
    except (SQLAlchemyError, OSError) as error:
        raise ArchiveError("write to the index", reason_of(error)) from None
    finally:
        index.close()
    if not done:
        raise CommandError(
            f"there is no study {study_uid}" if on else f"study {study_uid} is not protected"
        )
    sys.stdout.write(f"{study_uid} {'is' if on else 'is no longer'} protected\n")
    return 0


def _index(settings: Settings) -> Index:
    """The index of an archive that is there, beside whoever else uses it."""
    require_index(settings)
    url = settings.index.url or sqlite_url(settings.data_dir / INDEX_FILE)
    return Index(url)
