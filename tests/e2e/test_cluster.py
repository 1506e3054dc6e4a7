"""Three nodes behind HAProxy, with one PostgreSQL and one S3 service: nothing acknowledged is lost.

One node is killed and PostgreSQL restarted while modalities store in parallel through the balancer.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.support import haproxy
from tests.support.ci import in_ci
from tests.support.dcmtk import dataset_bytes, free_port
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.postgresql_programs import binaries
from tests.support.postgresql_server import PostgreSQLServer
from tests.support.pynetdicom_client import association, find, get, store_one
from tests.support.s3_service import CREDENTIALS, S3Service
from tests.support.sample_objects import CT, of_sender

NODES = 3
SENDERS = 4
OBJECTS = 30  # of each sender
FAIL_AFTER = 20  # acknowledged objects
STUDY = "1.2.826.0.1.3680043.8.498.99"
GIVE_UP_S = 60.0
LIMIT_S = (
    300.0  # all waits below together: on a busy machine the nodes alone need a minute to start
)
OFFERED = [(CT, ExplicitVRLittleEndian)]


@dataclass
class Cluster:
    """All that runs."""

    port: int  # of the balancer
    nodes: list[NodeProcess]
    postgresql: PostgreSQLServer
    service: S3Service
    bucket: str


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3_service: S3Service) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    programs = binaries()
    if programs is None or haproxy.program() is None:
        reason = "install the packages haproxy and postgresql"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    bucket = s3_service.new_bucket()
    port = free_port()
    with ExitStack() as stack:
        postgresql = stack.enter_context(PostgreSQLServer(programs))
        configuration = f"""
            [server]
            ae_title = "CLUSTER"
            proxy_protocol = ["127.0.0.1"]
            [index]
            url = "{postgresql.url(postgresql.new_database())}"
            [objects]
            url = "s3://{bucket}/cluster"
            endpoint = "{s3_service.url}"
            allow_http = true
            [peers.CLUSTER]
            host = "127.0.0.1"
            port = {port}
        """
        nodes = [
            NodeProcess(
                folder / f"node{number}",
                configuration=configuration,
                env=CREDENTIALS,
                flags=["--http-port", "0"],
            )
            for number in range(NODES)
        ]
        for node in nodes:
            stack.callback(node.kill)
        with ThreadPoolExecutor(NODES) as starting:
            list(starting.map(NodeProcess.start, nodes))
        ports = [
            (node.port, int(node.wait_for("page")["url"].rstrip("/").rpartition(":")[2]))
            for node in nodes
        ]
        stack.enter_context(haproxy.balancer(folder, port, ports))
        yield Cluster(port, nodes, postgresql, s3_service, bucket)


@dataclass
class Modality:
    """Sends objects through the balancer, one after another, each until it is acknowledged."""

    port: int
    files: list[Path]
    told: Callable[[], None]
    acknowledged: list[Path] = field(default_factory=list)
    answers: Counter[Any] = field(default_factory=Counter)

    def __call__(self) -> None:
        give_up_at = time.monotonic() + GIVE_UP_S
        todo = list(reversed(self.files))
        while todo and time.monotonic() < give_up_at:
            # From another address than the balancer's: that is whom the nodes must see.
            with association(self.port, OFFERED, bind_address=("127.0.0.2", 0)) as assoc:
                while todo and assoc.is_established:
                    status = store_one(assoc, todo[-1])
                    self.answers[status] += 1
                    if status != 0x0000:
                        break
                    self.acknowledged.append(todo.pop())
                    self.told()
            if todo:
                time.sleep(0.1)


@pytest.mark.timeout(LIMIT_S)
def test_nothing_acknowledged_is_lost_when_a_node_dies_and_the_database_restarts(
    cluster: Cluster, dcmtk: Any, tmp_path: Path
) -> None:
    enough = threading.Semaphore(0)
    modalities = [
        Modality(
            cluster.port,
            of_sender(tmp_path, sender, OBJECTS, study=STUDY, patient="P99"),
            enough.release,
        )
        for sender in range(SENDERS)
    ]
    threads = [threading.Thread(target=each) for each in modalities]
    for thread in threads:
        thread.start()
    for _ in range(FAIL_AFTER):
        assert enough.acquire(timeout=GIVE_UP_S)
    cluster.nodes[1].wait_for("C-STORE", status="0x0000")  # and not the others alone
    cluster.nodes[1].signal(signal.SIGKILL)
    for _ in range(FAIL_AFTER):
        assert enough.acquire(timeout=GIVE_UP_S)
    cluster.postgresql.stop()
    cluster.postgresql.start()
    for thread in threads:
        thread.join(2 * GIVE_UP_S)

    sent = {file.stem: file for each in modalities for file in each.files}
    # Clients that try again lose nothing.
    assert [len(each.acknowledged) for each in modalities] == [OBJECTS] * SENDERS, [
        each.answers for each in modalities
    ]
    (found,) = find(
        cluster.port, {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""}, "STUDY"
    )
    assert found.NumberOfStudyRelatedInstances == len(sent)
    code, got = get(cluster.port, {"StudyInstanceUID": STUDY}, "STUDY", OFFERED)
    assert code == 0x0000
    assert {uid: data for uid, (_, data) in got.items()} == {
        uid: dataset_bytes(file) for uid, file in sent.items()
    }

    # A move to the cluster itself: to the balancer, and from there to any node.
    moved = dcmtk.move(cluster.port, "STUDY", {"StudyInstanceUID": STUDY}, to="CLUSTER")
    assert (moved.status, moved.counters) == (0, ("none", str(len(sent)), "0", "0"))
    (found,) = find(
        cluster.port, {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""}, "STUDY"
    )
    assert found.NumberOfStudyRelatedInstances == len(sent)

    # Every node took part, and knew its peers by their own addresses.
    for node in cluster.nodes:
        stores = node.events(service="C-STORE", status="0x0000")
        assert any("127.0.0.2" in each["peer"] for each in stores)

    # The dead node's folder is free: index and objects agree, but for what was never acknowledged.
    dead = cluster.nodes[1]
    check = run_lfscp(
        *("check", "--config", dead.command[3], "--data-dir", dead.data_dir), env=CREDENTIALS
    )
    problems = [line for line in check.stdout.splitlines()[:-1] if not line.startswith("left over")]
    assert problems == []


def test_a_connection_past_the_balancer_is_refused(cluster: Cluster, dcmtk: Any) -> None:
    node = cluster.nodes[0]
    assert dcmtk.echo(cluster.port).code == 0
    assert dcmtk.echo(node.port).code != 0
    reason = "no PROXY protocol header, set send-proxy-v2 at the proxy"
    node.wait_for(f"Closing a connection of 127.0.0.1: {reason}")
