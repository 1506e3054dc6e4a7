"""Whether all is well with the node, and if not, what is wrong and where to look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.observe.recent_log import LogLine, RecentLog
from lfscp.web.context import Web
from lfscp.web.status.stored_lately import Disk, StoredLately

SOON_DAYS: Final = 30.0
MAX_LOOKED_AT: Final = 20_000  # lines of the log
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        problem: in words; empty if it is well.
        is_grave: whether the node cannot do its work; else somebody should look at it.
        href: where to look.
    """

    name: str
    problem: str = ""
    is_grave: bool = False
    href: str = ""


@dataclass(frozen=True, slots=True)
class LogOfDay:
    """The warnings and errors of the last 24 hours.

    Args:
        is_kept: whether the node keeps them.
        newest: some of the errors.
    """

    is_kept: bool
    errors: int = 0
    warnings: int = 0
    newest: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What an administrator asks first.

    Args:
        stored: None if the index does not answer.
    """

    findings: tuple[Finding, ...]
    disks: tuple[Disk, ...]
    stored: StoredLately | None
    log: LogOfDay

    @property
    def problems(self) -> list[Finding]:
        """What is not well, the grave first."""
        found = [each for each in self.findings if each.problem]
        return sorted(found, key=lambda each: not each.is_grave)


def health_of(web: Web) -> Health:
    """Look at the node now; what reads the whole index is counted once in a while."""
    try:
        stored = web.store_rates.now()
        jobs = web.jobs.counts()
    except (SQLAlchemyError, ArchiveError):
        stored, jobs = None, {}
    disks = tuple(web.store_rates.disks(stored)) if stored else ()
    log = log_of_day(web)
    findings = [
        Finding(each.name, each.problem, is_grave=True, href="/readyz")
        for each in web.readiness.checks()
    ]
    findings.append(Finding("clock", web.archive.clock_doubt()))
    findings += [Finding(f"disk of {each.holds}", _soon_full(each)) for each in disks]
    failed = sum(number for (_, state), number in jobs.items() if state == "failed")
    said = f"{failed} {'job has' if failed == 1 else 'jobs have'} failed" if failed else ""
    findings.append(Finding("jobs", said, href="/jobs?state=failed"))
    said = f"{log.errors} errors in the log of the last 24 hours" if log.errors else ""
    findings.append(Finding("log", said, href="/node/log?level=error"))
    return Health(tuple(findings), disks, stored, log)


def _soon_full(disk: Disk) -> str:
    if disk.full_in_days is None or disk.full_in_days > SOON_DAYS:
        return ""
    return f"full in about {max(0, round(disk.full_in_days))} days if stores go on as lately"


def recent_log(web: Web) -> RecentLog:
    """The newest warnings and errors of the node."""
    return RecentLog(web.settings.data_dir, web.settings.logging.kept_mb * 1_000_000)


def log_of_day(web: Web) -> LogOfDay:
    """The warnings and errors of the last 24 hours."""
    if not web.settings.logging.kept_mb:
        return LogOfDay(False)
    since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    errors: list[LogLine] = []
    warnings = looked_at = 0
    try:
        for line in takewhile(lambda each: each.time >= since, recent_log(web).lines()):
            looked_at += 1
            if line.level == "warning":
                warnings += 1
            else:
                errors.append(line)
            if looked_at == MAX_LOOKED_AT:
                break
    except OSError:
        return LogOfDay(False)
    return LogOfDay(True, len(errors), warnings, tuple(errors[:_SHOWN]))
