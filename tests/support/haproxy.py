"""HAProxy before real nodes, configured by the project's own files in config."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Certificate
from tests.support.dcmtk import free_port

CONFIGURATION = Path(__file__).parents[2] / "config/haproxy.cfg"
BEFORE_PAGE = CONFIGURATION.with_name("haproxy-page.cfg")
PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
START_S = 20.0


def program() -> str | None:
    """HAProxy's path, if it is installed."""
    return shutil.which("haproxy", path=PLACES)


def configuration(port: int, nodes: Sequence[tuple[int, int]]) -> str:
    """The project's configuration for other addresses.

    Args:
        port: to listen on.
        nodes: the ports of DICOM and of the page of each node on this machine.
    """
    text = CONFIGURATION.read_text()
    text, binds = re.subn(r"bind :11112", f"bind 127.0.0.1:{port}", text)
    assert binds == 1
    checked, unchecked = "", ""
    for number, (dicom, page) in enumerate(nodes, 1):
        checked += f"    server node{number} 127.0.0.1:{dicom} port {page}\n"
        unchecked += f"    server any{number} 127.0.0.1:{dicom} no-check backup\n"
    for name, servers in (("node", checked), ("any", unchecked)):
        text, replaced = re.subn(rf"(    server {name}\d .*\n)+", servers, text)
        assert replaced == 1
    return text


@contextmanager
def balancer(folder: Path, port: int, nodes: Sequence[tuple[int, int]]) -> Iterator[None]:
    """HAProxy before nodes, once it takes connections."""
    with running(folder, port, configuration(port, nodes)):
        yield


@dataclass(frozen=True)
class Ports:
    """Where HAProxy listens before a page: with TLS, for OHIF with TLS, and without TLS."""

    page: int
    viewer: int
    plain: int


def before_page(ports: Ports, node: tuple[int, int], certificate: Path) -> str:
    """The project's configuration for other addresses.

    Args:
        node: its ports of the page and of OHIF on this machine.
        certificate: with its key.
    """
    text = BEFORE_PAGE.read_text()
    listening = {"443": ports.page, "8443": ports.viewer, "80": ports.plain}
    for written, port in listening.items():
        text, binds = re.subn(rf"bind :{written}\b", f"bind 127.0.0.1:{port}", text)
        assert binds == 1
    for written, port in zip(("8080", "8081"), node, strict=True):
        text, servers = re.subn(
            rf"server node 127.0.0.1:{written}\b", f"server node 127.0.0.1:{port}", text
        )
        assert servers == 1
    assert text.count("/etc/haproxy/pacs.pem") == len(("page", "viewer"))
    return text.replace("/etc/haproxy/pacs.pem", str(certificate))


@contextmanager
def with_tls(
    folder: Path, ports: Ports | int, page: int, certificate: Certificate, viewer: int = 0
) -> Iterator[None]:
    """HAProxy with TLS before the page of a node, and before its OHIF.

    Args:
        ports: where it listens; a number is that for the page, and the others are any.
        page: the node's port of the page.
        viewer: that of OHIF; 0 if it has none.
    """
    if isinstance(ports, int):
        ports = Ports(ports, free_port(), free_port())
    both = folder / "page.pem"
    both.write_text(certificate.file.read_text() + certificate.key.read_text())
    with running(folder, ports.page, before_page(ports, (page, viewer or page), both)):
        yield


@contextmanager
def running(folder: Path, port: int, text: str) -> Iterator[None]:
    """HAProxy with a configuration, in a process of its own, once it takes connections."""
    found = program()
    assert found is not None
    file = folder / "haproxy.cfg"
    file.write_text(text)
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [found, "-db", "-f", str(file)], stdout=output, stderr=output, cwd=folder
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield
    finally:
        process.kill()
        process.wait(START_S)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return
