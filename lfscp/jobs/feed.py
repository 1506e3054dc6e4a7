"""Publishes news of jobs: each subscriber draws the newest state of the jobs that changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from lfscp.jobs.model import Job

MAX_WAITING: Final = 1000


class Subscription:
    """The jobs that changed since the last look. Any thread may use and close it.

    A job that changed several times comes once, in its newest state. Of more than `MAX_WAITING`
    changed jobs the oldest news are dropped.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._closed = False

    def next(self, timeout_s: float | None = None) -> Job | None:
        """Wait for the next changed job; None if none came in time, or after `close()`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            if self._closed or not self._waiting:
                return None
            return self._waiting.popitem(last=False)[1]

    @property
    def is_closed(self) -> bool:
        """Whether no more news comes."""
        return self._closed

    def put(self, job: Job) -> None:
        """Add news; never waits."""
        with self._changed:
            self._waiting[job.id] = job
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            self._changed.notify()

    def close(self) -> None:
        """Take no more news, and wake the waiting thread."""
        self._feed.drop(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Feed:
    """Gives the news to all subscribers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._closed = False

    def subscribe(self) -> Subscription:
        """A new subscriber; closed at once if the feed is closed."""
        subscription = Subscription(self)
        with self._lock:
            if not self._closed:
                self._subscriptions += (subscription,)
                return subscription
        subscription.close()
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscriber."""
        with self._lock:
            others = (each for each in self._subscriptions if each is not subscription)
            self._subscriptions = tuple(others)

    def publish(self, job: Job) -> None:
        """Give the news of a job to all subscribers."""
        for subscription in self._subscriptions:
            subscription.put(job)

    def close(self) -> None:
        """Close all subscriptions."""
        with self._lock:
            self._closed = True
            subscriptions = self._subscriptions
        for subscription in subscriptions:
            subscription.close()
