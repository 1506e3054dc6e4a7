"""Jobs that wait for a peer which says nothing end as soon as somebody wishes so.

The peers' time limits are ten minutes: a job that ends within the tests' deadline did not wait.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from lfscp.jobs.model import Job, State
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.echo import echo
from lfscp.scu.errors import GivenUpError
from lfscp.scu.peer import Peer
from tests.e2e.test_jobs_retrieve import DEADLINE_S, STUDY, jobs_of, wait
from tests.support import pynetdicom_client
from tests.support.dicom_peer import ABORT, pdu
from tests.support.sample_objects import sample

PATIENT_S = 600.0
PATIENT = {
    "connect_timeout_s": PATIENT_S,
    "acse_timeout_s": PATIENT_S,
    "dimse_timeout_s": PATIENT_S,
}
KEYS = {"keys": {"StudyInstanceUID": STUDY}}


@contextmanager
def silent() -> Iterator[tuple[Peer, list[socket.socket]]]:
    """A server that takes connections and says nothing; the connections it has taken."""
    taken: list[socket.socket] = []
    with ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0)))

        def take() -> None:
            while True:
                try:
                    taken.append(open_sockets.enter_context(listener.accept()[0]))
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield Peer("X", *listener.getsockname(), **PATIENT), taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def full() -> Iterator[Peer]:
    """A server whose backlog is full, so that no connection comes about."""
    with ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            each = open_sockets.enter_context(closing(socket.socket()))
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield Peer("X", *listener.getsockname(), **PATIENT)


def active(service: JobService, job: Job) -> Job:
    return wait(service, job, lambda now: now.state is State.ACTIVE)


def end_all(service: JobService, jobs: list[Job]) -> None:
    """Cancel jobs that run, and see them end."""
    for job in jobs:
        assert active(service, job).state is State.ACTIVE
        service.cancel(job.id)
    for job in jobs:
        assert wait(service, job).state is State.CANCELLED
    assert service.jobs([State.ACTIVE]) == []


def requests(peer: Peer, file: Path) -> list[JobRequest]:
    return [
        JobRequest("echo", peer),
        JobRequest("find", peer, KEYS),
        JobRequest("retrieve", peer, KEYS),
        JobRequest("retrieve", peer, {**KEYS, "level": "SERIES", "method": "get"}),
        JobRequest("retrieve", peer, {**KEYS, "level": "SERIES", "method": "move"}),
        JobRequest("send", peer, {"paths": [str(file)]}),
        JobRequest("collect", [peer, peer], KEYS),
    ]


def test_jobs_that_wait_for_an_answer_to_their_request_are_cancelled_at_once(
    tmp_path: Path,
) -> None:
    file = sample("CT_small.dcm", tmp_path / "in")
    with (
        silent() as (peer, taken),
        jobs_of(tmp_path / "mine", web={"roots": [str(tmp_path)]}) as (service, _),
    ):
        jobs = [service.submit(each) for each in requests(peer, file)]
        end_all(service, jobs)
        for each in taken:
            each.settimeout(PATIENT_S)
            received = b"".join(iter(lambda each=each: each.recv(65536), b""))
            assert received.endswith(pdu(ABORT, b"\0\0\0\0")), "an A-ABORT of the user's"


def test_jobs_that_wait_for_a_connection_are_cancelled_at_once(tmp_path: Path) -> None:
    with full() as peer, jobs_of(tmp_path / "mine") as (service, _):
        end_all(service, [service.submit(JobRequest("echo", peer)) for _ in range(2)])


def test_a_job_that_waits_for_a_tls_handshake_is_cancelled_at_once(tmp_path: Path) -> None:
    with silent() as (peer, _), jobs_of(tmp_path / "mine") as (service, _):
        tls = replace(peer, tls=True, tls_verify=False)
        end_all(service, [service.submit(JobRequest("echo", tls))])


def test_a_waiting_job_that_is_paused_rests_at_once_and_runs_again(tmp_path: Path) -> None:
    with silent() as (peer, _), jobs_of(tmp_path / "mine") as (service, _):
        job = service.submit(JobRequest("retrieve", peer, KEYS))
        active(service, job)
        service.pause(job.id)
        paused = wait(service, job, lambda now: now.state is State.PAUSED)
        assert (paused.state, paused.reason) == (State.PAUSED, "")
        service.resume(job.id)
        end_all(service, [job])


def test_waiting_jobs_do_not_hold_up_a_node_that_stops(tmp_path: Path) -> None:
    with silent() as (peer, _), jobs_of(tmp_path / "mine") as (service, _):
        job = service.submit(JobRequest("echo", peer))
        active(service, job)
        assert [left.id for left in service.terminate(0)] == [job.id]
        assert service.job(job.id).reason == "interrupted, runs again when the node does"


def test_a_request_whose_response_does_not_come_is_cancelled(tmp_path: Path) -> None:
    """C-ECHO and C-STORE know no C-CANCEL: the association is aborted."""
    go_on = threading.Event()
    asked = threading.Semaphore(0)

    def hold(_event: evt.Event) -> int:
        asked.release()
        go_on.wait()
        return 0

    ae = AE(ae_title="X")
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    handlers = [(evt.EVT_C_ECHO, hold), (evt.EVT_C_STORE, hold)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    file = sample("CT_small.dcm", tmp_path / "in")
    peer = Peer("X", "127.0.0.1", server.server_address[1], **PATIENT)
    try:
        with jobs_of(tmp_path / "mine", web={"roots": [str(tmp_path)]}) as (service, _):
            first = service.submit(JobRequest("echo", peer))
            second = service.submit(JobRequest("send", peer, {"paths": [str(file)]}))
            for _ in range(2):
                assert asked.acquire(timeout=DEADLINE_S)
            end_all(service, [first, second])
    finally:
        held = server.active_associations
        go_on.set()
        server.shutdown()
        for each in held:
            pynetdicom_client.close(each)


def test_who_gives_up_is_told_so() -> None:
    wanted_no_more = threading.Event()
    wanted_no_more.set()
    with (
        silent() as (peer, _),
        pytest.raises(GivenUpError, match=r"^interrupted while waiting for "),
    ):
        echo(peer, cancel=wanted_no_more)
