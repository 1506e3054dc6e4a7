"""The plug-ins of one process: asks those that decide, and tells the others.

Rules: a plug-in that raises or does not answer is named in one line of the log, at most one every
ten seconds for each hook, and counts as `plugins.on_failure` says. A decision is the first refusal,
in the order of the plug-ins. Nothing here raises into its caller, except for a refusal itself.

A parent that forks loads the plug-ins once; threads begin in `start`, in each process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pluggy

from lfscp.archive.errors import StoreRefusedError
from lfscp.archive.interceptor import Withheld
from lfscp.observe import metrics
from lfscp.plugins.answers import act, added_by, decide
from lfscp.plugins.arrivals import arrival_of
from lfscp.plugins.errors import PluginError
from lfscp.plugins.events import (
    AnsweredQuery,
    Arrival,
    CompleteStudy,
    EndedJob,
    PluginQuery,
    Refusal,
    Sending,
    StoredObject,
)
from lfscp.plugins.in_use import PluginInUse
from lfscp.plugins.loading import Loaded, load
from lfscp.plugins.node import PluginNode
from lfscp.plugins.specifications import ACTION, PROJECT, TOLD, Services, Specifications

if TYPE_CHECKING:
    from fastapi import APIRouter
    from pydicom.dataset import Dataset

    from lfscp.archive.archive import Archive
    from lfscp.archive.interceptor import AskedQuery
    from lfscp.archive.store.received_objects import Received, Stored, StoredInstance
    from lfscp.config import Settings
    from lfscp.dicom.reading.header import Header

_LOOK_EVERY_S: Final = 1.0  # whether one hangs


class Plugins:
    """The plug-ins of a node. Any thread may call any method; see archive.interceptor.

    Args:
        settings: of the node.
        loaded: what `loading.load` gave.
    """

    def __init__(self, settings: Settings, loaded: tuple[Loaded, ...]) -> None:
        self._settings = settings
        self._archive: Archive | None = None
        self._in_use: tuple[PluginInUse, ...] = ()
        self._by_hook: dict[str, tuple[PluginInUse, ...]] = {}
        self._is_started = False
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None
        self._put_to_use(settings, loaded)

    @classmethod
    def load(cls, settings: Settings) -> Plugins:
        """Load the plug-ins that the settings name.

        Raises:
            ConfigError: one cannot be used; names file, key and reason.
        """
        return cls(settings, load(settings.plugins))

    @property
    def loaded(self) -> tuple[Loaded, ...]:
        """The plug-ins in use."""
        return tuple(each.loaded for each in self._in_use)

    # --- life ---

    def open(self, archive: Archive) -> None:
        """Let plug-ins use an archive, and be asked by it."""
        self._archive = archive
        for each in self._in_use:
            each.node = self._node(each.loaded.name, self._settings)
        archive.interceptor = self if self._in_use else None

    def start(self) -> None:
        """Begin in this process: each plug-in hears of the startup first."""
        self._is_started = True
        self._count_waiting()  # that of a predecessor is over
        self._tell("startup")
        self._watch_for_hanging()

    def stop(self) -> None:
        """Tell what waits, then the shutdown, within plugins.stop_timeout_s; take no more."""
        self._stopping.set()
        deadline = time.monotonic() + self._settings.plugins.stop_timeout_s
        ending = [
            threading.Thread(target=self._end, args=(each, deadline), daemon=True)
            for each in self._in_use
        ]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(max(0.1, deadline - time.monotonic() + 1.0))

    def _end(self, plugin: PluginInUse, deadline: float) -> None:
        last = None
        if "shutdown" in plugin.functions and self._is_started:
            last = "shutdown", partial(plugin.run_told, "shutdown")
        plugin.queue.end(last, max(0.0, deadline - time.monotonic()))

    def prepare(self, settings: Settings) -> tuple[Loaded, ...]:
        """Load what new settings name; nothing changes yet.

        Raises:
            ConfigError: one cannot be used.
        """
        return load(settings.plugins, self.loaded)

    def renew(self, settings: Settings, loaded: tuple[Loaded, ...]) -> None:
        """Use other plug-ins from now on; those that stay go on with their queue."""
        before = self._in_use
        self._put_to_use(settings, loaded)
        new = [each for each in self._in_use if each not in before]
        gone = [each for each in before if each not in self._in_use]
        if self._archive is not None:
            self.open(self._archive)
        if not self._is_started:  # a parent, which must have no threads
            return
        deadline = time.monotonic() + settings.plugins.stop_timeout_s
        for each in gone:
            threading.Thread(target=self._end, args=(each, deadline), daemon=True).start()
        for each in new:
            self._tell_one(each, "startup")
        self._watch_for_hanging()

    def _put_to_use(self, settings: Settings, loaded: tuple[Loaded, ...]) -> None:
        """Order the functions of all plug-ins, by pluggy's rules, the first plug-in first."""
        known = {id(each.loaded): each for each in self._in_use}
        size = settings.plugins.queue_size
        in_use = [
            known.get(id(each)) or PluginInUse(each, self._node(each.name, settings), size)
            for each in loaded
        ]
        by_name = {each.loaded.name: each for each in in_use}
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(Specifications)
        for each in reversed(in_use):  # pluggy calls the last one first
            manager.register(each.loaded.plugin, each.loaded.name)
        by_hook = {}
        for hook in {hook for each in loaded for hook in each.hooks}:
            found = getattr(manager.hook, hook).get_hookimpls()
            for implementation in found:
                by_name[implementation.plugin_name].add(hook, implementation.function)
            by_hook[hook] = tuple(by_name[each.plugin_name] for each in reversed(found))
        self._settings, self._in_use, self._by_hook = settings, tuple(in_use), by_hook

    def _node(self, name: str, settings: Settings) -> PluginNode:
        own = settings.plugins.settings.get(name, {})
        return PluginNode(name, own, settings.server.ae_title, self._archive)

    # --- deciding ---

    def before_store(self, received: Received, header: Header) -> None:
        """Raise StoreRefusedError if a plug-in does not let an object in."""
        if "may_store" not in self._by_hook:
            return
        arrivals: list[Arrival] = []

        def given() -> dict[str, Any]:
            arrivals.append(arrival_of(received, header))
            return {"arrival": arrivals[-1]}

        try:
            refused = self._decision("may_store", given)
        finally:
            for each in arrivals:
                each.end()
        if refused is not None:
            raise StoreRefusedError(refused.reason, is_temporary=refused.is_temporary)

    def before_send(self, instance: StoredInstance, destination: str) -> Withheld | None:
        """Why an object may not be sent; None if it may."""
        if "before_send" not in self._by_hook:
            return None
        sending = Sending(
            instance.sop_class_uid,
            instance.sop_instance_uid,
            instance.study_uid,
            instance.series_uid,
            destination,
        )
        refused = self._decision("before_send", lambda: {"sending": sending})
        return None if refused is None else Withheld(refused.reason, refused.is_temporary)

    def before_query(self, asked: AskedQuery) -> str:
        """Why a query may not be answered; empty if it may."""
        if "may_find" not in self._by_hook:
            return ""
        refused = self._decision("may_find", lambda: {"query": PluginQuery(*asked)})
        return "" if refused is None else refused.reason

    def _decision(self, hook: str, given: Callable[[], dict[str, Any]]) -> Refusal | None:
        return decide(self._by_hook.get(hook, ()), hook, given, self._settings.plugins)

    def apply_action(self, name: str, dataset: Dataset) -> Dataset:
        """Have one plug-in change an object on its way through a route.

        Args:
            name: of the plug-in.
        Raises:
            PluginRefusalError: it does not let the object go on.
            PluginError: there is none, it has no route_action, it failed or took too long.
        """
        for each in self._by_hook.get(ACTION, ()):
            if each.loaded.name == name:
                return act(each, dataset, self._settings.plugins.hang_s)
        raise PluginError("change the object", f"no plug-in {name} has the hook {ACTION}")

    # --- telling ---

    def after_store(self, received: Received, stored: Stored) -> None:
        """Tell of an object that was stored."""
        if "stored" not in self._by_hook or stored.outcome.value not in ("stored", "replaced"):
            return
        told = StoredObject(
            received.sop_class_uid,
            received.sop_instance_uid,
            stored.study_uid,
            stored.series_uid,
            received.transfer_syntax_uid,
            received.calling_ae_title,
            stored.size,
            is_new=stored.outcome.value == "stored",
        )
        self._tell("stored", stored=told)

    def after_query(self, asked: AskedQuery, matches: int) -> None:
        """Tell of a query that was answered."""
        if "found" in self._by_hook:
            for each in self._by_hook[
                "found"
            ]:  # each a query of its own, as it may change the keys
                answered = AnsweredQuery(PluginQuery(*asked), matches)
                self._tell_one(each, "found", answered=answered)

    def hears(self, hook: str) -> bool:
        """Whether a plug-in has a hook."""
        return hook in self._by_hook

    def notify_study_complete(self, study_uid: str) -> None:
        """Tell of a study to which no object has come for the quiet time."""
        self._tell("study_complete", study=CompleteStudy(study_uid))

    def job_ended(self, job: EndedJob) -> None:
        """Tell of a job that has ended."""
        self._tell("job_ended", job=job)

    def _tell(self, hook: str, **arguments: Any) -> None:
        for each in self._by_hook.get(hook, ()):
            self._tell_one(each, hook, **arguments)

    def _tell_one(self, plugin: PluginInUse, hook: str, **arguments: Any) -> None:
        if hook in plugin.functions:
            plugin.queue.put(hook, partial(plugin.run_told, hook, **arguments))

    def _count_waiting(self) -> None:
        metrics.PLUGIN_EVENTS.set(sum(each.count_waiting() for each in self._in_use))

    def _watch_for_hanging(self) -> None:
        if self._watch is None and any(hook in TOLD for hook in self._by_hook):
            self._watch = threading.Thread(
                target=self._name_hanging, name="lfscp-plugin-watch", daemon=True
            )
            self._watch.start()

    def _name_hanging(self) -> None:
        while not self._stopping.wait(min(_LOOK_EVERY_S, self._settings.plugins.hang_s)):
            self._count_waiting()  # not with each event: that costs more than the event
            for each in self._in_use:
                each.queue.name_if_hanging(self._settings.plugins.hang_s)

    # --- adding ---

    def services(self) -> Iterator[tuple[str, Services]]:
        """What plug-ins add to DICOM, each with the name of the plug-in.

        Raises:
            PluginError: one does not say what it adds.
        """
        for each in self._by_hook.get("handlers", ()):
            added = added_by(each, "handlers", Services)
            if added is not None:
                yield each.loaded.name, added

    def routers(self) -> Iterator[tuple[str, APIRouter]]:
        """What plug-ins add to HTTP, each with its name; one that fails is named in the log."""
        from fastapi import APIRouter

        for each in self._by_hook.get("routes", ()):
            try:
                added = added_by(each, "routes", APIRouter)
            except PluginError as error:
                each.say("plug-in brings no routes", "routes", reason=error.reason)
                continue
            if added is not None:
                yield each.loaded.name, added
