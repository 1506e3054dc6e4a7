"""The hooks that a plug-in may have. A plug-in marks its functions with `hook`.

A hook may leave out arguments that it does not need. All hooks run in threads of the node, so what
a plug-in keeps between calls needs a lock. A node of several worker processes has the plug-in in
each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from fastapi import APIRouter
    from pydicom.dataset import Dataset

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
    from lfscp.plugins.node import PluginNode

PROJECT: Final = "lfscp"
hook: Final = pluggy.HookimplMarker(PROJECT)
_specification: Final = pluggy.HookspecMarker(PROJECT)

# Hooks that are told: one after another for each plug-in, while the node goes on. The others decide
# (the node waits for plugins.decision_timeout_s at most), or add to the node when it starts.
TOLD: Final = ("startup", "stored", "study_complete", "found", "job_ended", "shutdown")
ACTION: Final = "route_action"


@dataclass(frozen=True, slots=True)
class Services:
    """Further DICOM services of a plug-in.

    Args:
        sop_classes: UIDs of SOP classes for which the node is to be SCP. pynetdicom must know
            their service class.
        handlers: pynetdicom's pairs of event and handler. A handler of a request, such as
            `evt.EVT_N_CREATE`, gets those for `sop_classes` alone.
    """

    sop_classes: Sequence[str] = ()
    handlers: Sequence[tuple[Any, Callable[..., Any]]] = ()


class Specifications:
    """The signatures of all hooks."""

    @_specification
    def may_store(self, arrival: Arrival, node: PluginNode) -> Refusal | None:
        """Decide whether an object may be stored, however it comes: C-STORE, STOW-RS, upload, job.

        Args:
            arrival: the object, which can be read.
        Returns:
            None to let it in, or a Refusal.
        """

    @_specification
    def stored(self, stored: StoredObject, node: PluginNode) -> None:
        """Hear of an object that was stored, or that took the place of another."""

    @_specification
    def study_complete(self, study: CompleteStudy, node: PluginNode) -> None:
        """Hear of a study to which no object has come for the quiet time."""

    @_specification
    def before_send(self, sending: Sending, node: PluginNode) -> Refusal | None:
        """Decide whether an object may be sent by C-MOVE, C-GET, a job or a route.

        Returns:
            None to send it, or a Refusal: the sub-operation fails then. The object of a route is
            put aside, or tried again later if the Refusal is temporary.
        """

    @_specification
    def may_find(self, query: PluginQuery, node: PluginNode) -> Refusal | None:
        """Decide whether a query may be answered: C-FIND of the archive or worklist, or QIDO-RS.

        Returns:
            None to answer it, or a Refusal.
        """

    @_specification
    def found(self, answered: AnsweredQuery, node: PluginNode) -> None:
        """Hear of a query that was answered."""

    @_specification
    def job_ended(self, job: EndedJob, node: PluginNode) -> None:
        """Hear of a job that is done, has failed or was cancelled."""

    @_specification
    def startup(self, node: PluginNode) -> None:
        """Hear that a process of the node has started; the first call in each of them."""

    @_specification
    def shutdown(self, node: PluginNode) -> None:
        """Hear that this process ends; the last call, within plugins.stop_timeout_s."""

    @_specification
    def handlers(self) -> Services | None:
        """Bring further pynetdicom handlers and SOP classes; asked once, when the node starts."""

    @_specification
    def routes(self, node: PluginNode) -> APIRouter | None:
        """Bring routes of HTTP; they stand below /plugins/NAME, behind the login of the page.

        GET needs the role `read`, other methods need `work`. Below /plugins/NAME/admin all need
        `admin`.
        """

    @_specification
    def route_action(self, dataset: Dataset, node: PluginNode) -> Dataset | Refusal | None:
        """Change an object on its way through a route.

        Args:
            dataset: the whole object. Large values are read when they are looked at.
        Returns:
            The dataset to go on with; None for the one that was given; a Refusal if the object is
            not to go.
        """


HOOKS: Final = tuple(
    name for name, value in vars(Specifications).items() if hasattr(value, f"{PROJECT}_spec")
)
