"""Defines a job and its state; plain data without I/O.

Rules: the id of a job is a random string; times are ISO 8601 in UTC; all of it fits into JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from lfscp.jobs.peers.described import JobPeer, to_json

JSON = Any  # None, bool, int, float, str, and lists and dicts of them
SOURCES: Final = ("paths", "studies", "series")  # of what is sent
MAX_DELAY_S: Final = 3600.0  # before a job is tried again
_SAID: Final = 4  # values of a list that a description has
SHORT_RESULT: Final = 1 << 16  # characters of JSON; a query's longer one is left out of its job


class JobKind(StrEnum):
    """What a job does."""

    ECHO = "echo"
    FIND = "find"
    RETRIEVE = "retrieve"
    SEND = "send"
    COLLECT = "collect"
    CORRECT = "correct"
    EXPORT = "export"


class State(StrEnum):
    """The state of a job."""

    SLEEPING = "sleeping"  # waits for its turn or its next attempt
    ACTIVE = "active"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether the job has ended."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class UnknownJobError(LookupError):
    """There is no job with this id (any more)."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id}; ended jobs are forgotten after jobs.keep_days")
        self.job_id = job_id


class TooManyJobsError(RuntimeError):
    """Too many jobs have not ended; no further one is taken."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} jobs have not ended yet; wait, or cancel some")


class WrongStateError(ValueError):
    """A job in this state cannot do that."""

    def __init__(self, job: Job, action: str, expected: str) -> None:
        super().__init__(f"a job that is {job.state} cannot {action}; it must be {expected}")
        self.job = job


# The names of dtools' job list, where every retrieve is a C-Get.
_DTOOLS_NAMES: Final = {
    JobKind.ECHO: "C-Echo",
    JobKind.FIND: "C-Find",
    JobKind.RETRIEVE: "C-Get",
    JobKind.SEND: "C-Store",
    JobKind.COLLECT: "Collect",
    JobKind.CORRECT: "Correct",
    JobKind.EXPORT: "Export",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment.

    Attributes:
        attempts: how often it was started.
        done: objects (of a find: matches) that are done; `failed` those that failed, `left` those
            still to do as far as known.
        bytes: how many were transferred; `rate_bytes_s` in the present attempt.
        reason: why it failed or sleeps, or a remark on its end.
        result: matches of a find, facts of an echo, problems of a transfer.
        failures: failed attempts since the last success.
        next_attempt_at: when a sleeping job is tried again, if it waits for that.
    """

    id: str
    kind: JobKind
    peers: tuple[JobPeer, ...]
    parameters: Mapping[str, JSON]
    state: State = State.SLEEPING
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    bytes: int = 0
    rate_bytes_s: float = 0.0
    reason: str = ""
    result: JSON = None
    failures: int = 0
    next_attempt_at: str | None = None

    @property
    def peer(self) -> JobPeer:
        """The peer it asks; the first of several."""
        return self.peers[0]

    @property
    def is_committed_to(self) -> bool:
        """Whether its objects are to be committed to by the receiver."""
        return bool(self.parameters.get("commit"))

    @property
    def description(self) -> str:
        """One line as in dtools' job list: "active job: C-Echo request: …"."""
        facts = ", ".join(str(peer) for peer in self.peers)
        keys = self.parameters.get("keys") or {}
        named = [
            f"{name}={_short(value)}" for name, value in keys.items() if value not in ("", None)
        ]
        named += [str(each) for name in SOURCES for each in self.parameters.get(name, [])]
        if named:
            facts += " " + " ".join(named[:4]) + (" …" if len(named) > 4 else "")
        return f"{self.state} job: {_DTOOLS_NAMES[self.kind]} request: {facts.strip()}"

    def to_json(self, *, with_changes: bool = True) -> dict[str, JSON]:
        """The whole job for JSON; `peer` is the first of `peers`, if there is any.

        Args:
            with_changes: False leaves out what a correction changes: a patient's data.
        """
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        peers = [to_json(peer) for peer in self.peers]
        return {
            **plain,
            "kind": str(self.kind),
            "state": str(self.state),
            "parameters": {
                name: value
                for name, value in self.parameters.items()
                if with_changes or self.kind is not JobKind.CORRECT or name != "changes"
            },
            "peer": peers[0] if peers else None,
            "peers": peers,
            "description": self.description,
        }


def _short(value: JSON) -> JSON:
    """A value; of a long list the beginning."""
    is_long = isinstance(value, list) and len(value) > _SAID
    return f"[{', '.join(map(str, value[:_SAID]))}, …]" if is_long else value


def is_result_apart(job: Job) -> bool:
    """Whether a job may have a result that is too large to go with it."""
    return job.kind is JobKind.FIND and job.state.is_end and job.result is None


def now() -> str:
    """The present time, for a job."""
    return timestamp(datetime.now(UTC))


def longest_wait() -> str:
    """The latest time at which a job that fails now is tried again."""
    return timestamp(datetime.now(UTC) + timedelta(seconds=MAX_DELAY_S))


def timestamp(moment: datetime) -> str:
    """A moment in UTC as ISO 8601 to the millisecond; the texts sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def groups_of(job: Job | None) -> list[str]:
    """The peers of a job, each with a limit of running jobs; none for a collect job."""
    peers = () if job is None or job.kind is JobKind.COLLECT else job.peers
    return [str(peer) for peer in peers]
