"""Ports: whether a node that runs answers at them, and one that does not could listen."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lfscp.doctor.finding import Finding, fine, warning, wrong

if TYPE_CHECKING:
    from lfscp.config import Settings

_SUBJECT: Final = "ports"
_WAIT_S: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - asked


def examine(settings: Settings, *, is_running: bool) -> Iterator[Finding]:
    """Each port that the node listens on.

    Args:
        is_running: whether a node uses the data folder.
    """
    for name, host, port in _ports(settings):
        if not port:
            yield fine(_SUBJECT, f"{name}: any free port, as it is 0; the log says which")
        elif is_running:
            yield _answers(name, host, port)
        else:
            yield _is_free(name, host, port)


def _ports(settings: Settings) -> Iterator[tuple[str, str, int]]:
    server, web, tls = settings.server, settings.web, settings.tls
    yield "server.port (DICOM)", server.host, server.port
    if tls.enabled:
        yield "tls.port (DICOM with TLS)", server.host, tls.port
    if web.enabled:
        yield "web.port (page)", web.host, web.port
    if web.enabled and settings.ohif.enabled and "port" in settings.ohif.model_fields_set:
        yield "ohif.port (OHIF)", web.host, settings.ohif.port  # the default one may be taken
    if settings.worklist.hl7_port:
        yield "worklist.hl7_port (HL7)", server.host, settings.worklist.hl7_port


def _answers(name: str, host: str, port: int) -> Finding:
    bare = host.strip("[]")
    try:
        with socket.create_connection((_EVERYWHERE.get(bare, bare), port), _WAIT_S):
            return fine(_SUBJECT, f"{name}: the node takes connections at {host}:{port}")
    except OSError as error:
        words = error.strerror or str(error)
        return wrong(
            _SUBJECT,
            f"{name}: a node runs, but nobody answers at {host}:{port}: {words}",
            "look in its log for `listening`: it may run with other options or settings",
        )


def _is_free(name: str, host: str, port: int) -> Finding:
    where = f"{name}: {host}:{port}"
    try:
        with socket.create_server((host.strip("[]"), port), family=_family(host)):
            return fine(_SUBJECT, f"{where} is free; no node runs")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = f"`ss -ltnp 'sport = {port}'` shows who has it; stop that, or choose another"
            return wrong(_SUBJECT, f"{where} is taken by another program", advice)
        if error.errno == errno.EACCES:
            advice = (
                "let systemd open it: `lfscp service install --socket`; or choose one from 1024"
            )
            return warning(_SUBJECT, f"{where}: only root may open ports below 1024", advice)
        words = error.strerror or str(error)
        advice = "set an address of this machine, or 0.0.0.0 for all of them"
        return wrong(_SUBJECT, f"{where} cannot be opened: {words}", advice)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
