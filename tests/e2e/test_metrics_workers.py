"""/metrics over several processes: no dead worker takes counts away; 503 while a node drains."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_node_log import associate_request
from tests.e2e.test_web_node import ask, page_of
from tests.support.node_process import StartNode
from tests.support.sample_objects import made

ECHOES = ("lfscp_request_duration_seconds_count", (("service", "C-ECHO"), ("status", "0x0000")))
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(url: str) -> tuple[Samples, set[str]]:
    """Every sample by name and labels; the names of those that may never go back."""
    status, body = ask(f"{url}metrics")
    assert status == 200
    samples, growing = {}, set()
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
            if family.type in ("counter", "histogram"):
                growing.add(sample.name)
    return samples, growing


def scrape_until(url: str, key: Any, value: float) -> tuple[Samples, set[str]]:
    """Scrape until a sample has reached a value."""
    until = time.monotonic() + 30
    while True:
        samples, growing = scrape(url)
        if samples.get(key, 0) >= value:
            return samples, growing
        assert time.monotonic() < until, samples.get(key)


def test_no_count_goes_back_when_a_worker_dies(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(flags=["--http-port", "0", "--workers", "2"], errors_expected=True)
    url = page_of(node)
    dcmtk.done(dcmtk.store(node.port, *(made(tmp_path) for _ in range(3))))
    for _ in range(6):
        dcmtk.done(dcmtk.echo(node.port))
    before, growing = scrape_until(url, ECHOES, 6)
    assert before["lfscp_received_instances_total", (("service", "C-STORE"),)] == 3
    assert before["lfscp_archive_instances", ()] == 3
    assert before["lfscp_associations_ended_total", (("outcome", "released"),)] == 7
    assert before["lfscp_object_sync_seconds_count", (("of", "file"),)] == 3
    workers = {
        dict(labels)["pid"]
        for name, labels in before
        if name == "lfscp_process_threads" and dict(labels)["process"].startswith("worker")
    }
    assert len(workers) == 2

    for pid in workers:  # whichever served them
        os.kill(int(pid), signal.SIGKILL)
    dcmtk.done(dcmtk.echo(node.port))  # it waits in the kernel for the next worker
    after, _ = scrape_until(url, ECHOES, 7)
    assert after[ECHOES] == 7
    gone = {
        (key, value, after.get(key))
        for key, value in before.items()
        if key[0] in growing
        and not key[0].startswith("lfscp_process_cpu")  # of a process, by its number
        and after.get(key, -1) < value
    }
    assert gone == set()
    scrape_until(url, ("lfscp_process_starts_total", ()), 5)


def test_a_node_that_drains_says_so_and_goes_on_with_what_runs(start_node: StartNode) -> None:
    for workers in (1, 2):
        node = start_node(f"workers-{workers}", flags=["--http-port", "0", "--workers", workers])
        url = page_of(node)
        assert ask(f"{url}readyz")[0] == 200
        request = associate_request(b"HOLDING".ljust(16), b"LFSCP".ljust(16))
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.settimeout(30)
            connection.sendall(request)
            assert connection.recv(1) == b"\x02"  # A-ASSOCIATE-AC
            until = time.monotonic() + 30
            connection.sendall(b"\x04\x00\x00\x00\x00\x40")  # a message begins: not idle
            node.signal(signal.SIGTERM)
            reason = ""
            while "stopping" not in reason:
                assert time.monotonic() < until
                try:
                    status, body = ask(f"{url}readyz")
                except urllib.error.URLError:
                    raise AssertionError("the page went before the associations") from None
                if status == 503:
                    reason = json.loads(body)["checks"]["pool"]
        assert node.wait() == 0
