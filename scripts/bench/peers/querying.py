"""Workloads that query an index loaded beforehand."""

from __future__ import annotations

import itertools
import random
import time
from functools import partial

from . import dul
from .bench import FIND_ASSOCIATE, FIND_CONTEXT, Bench, Invalid
from .dataset import Instance
from .targets import Capability, Target
from .workload import Figure, Values, Workload, loop_seconds

INDEX_STUDIES, QUARTER_STUDIES = 2000, 500

_STUDY_KEYS = {
    (0x0008, 0x0020): "",  # Study Date
    (0x0008, 0x0030): "",  # Study Time
    (0x0008, 0x0050): "",  # Accession Number
    (0x0008, 0x0052): "STUDY",
    (0x0010, 0x0010): "",  # Patient's Name
    (0x0010, 0x0020): "",  # Patient ID
    (0x0020, 0x000D): "",
    (0x0020, 0x0010): "",  # Study ID
}


def _find(association: dul.Association, request: bytes) -> list[dul.Response]:
    """The matches of one C-FIND; a final status other than success is an invalid result."""
    *matches, final = association.responses(request)
    if final.status != dul.STATUS_SUCCESS:
        raise Invalid(f"C-FIND ended with status {final.status:#06x}")
    return matches


def _index(bench: Bench, studies: int) -> tuple[str, tuple[Instance, ...]]:
    if studies == QUARTER_STUDIES:
        return "index-quarter", bench.dataset.index_quarter
    return "index", bench.dataset.index


def _find_all(name: str, studies: int, bench: Bench, target: Target) -> Values:
    request = dul.encode_find(FIND_CONTEXT, dul.encode_identifier(_STUDY_KEYS))
    label, instances = _index(bench, studies)
    expected = {instance.study for instance in instances}
    with bench.loaded(target, label, instances) as server:
        association = dul.open_association(server.port, FIND_ASSOCIATE, 120)
        queries, answered, started = 0, 0, time.perf_counter()
        while True:
            matches = _find(association, request)
            queries += 1
            answered += len(matches)
            elapsed = time.perf_counter() - started
            if elapsed > loop_seconds(bench) / 2:
                break
        association.release()
    # Repeated answers for one study (pynetdicom's qrscp: one per instance) count once.
    if {dul.find_value(match.data, (0x0020, 0x000D)) for match in matches} != expected:
        raise Invalid(f"the {len(matches)} responses are not the {len(expected)} studies")
    if answered != queries * len(matches):
        raise Invalid(f"{queries} equal queries had {answered} responses, the last {len(matches)}")
    return {name: queries * len(expected) / elapsed}


def _find_one(name: str, studies: int, bench: Bench, target: Target) -> Values:
    label, instances = _index(bench, studies)
    uids = sorted({instance.study for instance in instances})
    random.Random(1).shuffle(uids)  # noqa: S311 - the same order in every run
    requests = [
        dul.encode_find(FIND_CONTEXT, dul.encode_identifier({**_STUDY_KEYS, (0x0020, 0x000D): uid}))
        for uid in uids
    ]
    with bench.loaded(target, label, instances) as server:
        association = dul.open_association(server.port, FIND_ASSOCIATE, 120)
        done, started = 0, time.perf_counter()
        for study, request in itertools.cycle(zip(uids, requests, strict=True)):
            found = {
                dul.find_value(match.data, (0x0020, 0x000D))
                for match in _find(association, request)
            }
            if found != {study}:
                raise Invalid(f"{len(found)} studies for one Study Instance UID")
            done += 1
            if (elapsed := time.perf_counter() - started) > loop_seconds(bench):
                break
        association.release()
    return {name: done / elapsed}


def _find_workload(name: str, studies: int) -> Workload:
    if name.startswith("find-study"):
        about = f"universal match over {studies} studies: studies answered"
        figure, find = Figure(name, "resp/s"), _find_all
    else:
        about = f"C-FIND by Study Instance UID among {studies} studies"
        figure, find = Figure(name, "/s"), _find_one
    return Workload(
        name,
        about,
        (figure,),
        partial(find, name, studies),
        frozenset({Capability.QUERY}),
        studies=studies,
    )


QUERYING: tuple[Workload, ...] = (
    _find_workload("find-study", INDEX_STUDIES),
    _find_workload("find-one", INDEX_STUDIES),
    _find_workload("find-study-500", QUARTER_STUDIES),
    _find_workload("find-one-500", QUARTER_STUDIES),
)
