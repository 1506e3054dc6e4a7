"""Commands that talk to another node: echo. They behave like DCMTK's tools of the same kind."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

from lfscp.cli.failures import CommandError
from lfscp.config import ConfigError
from lfscp.config.settings import validate_ae_title

DEFAULT_CALLED_AE_TITLE = "ANY-SCP"  # as DCMTK's clients


class Target(NamedTuple):
    """Another application entity on the network."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        """The target as it is written on the command line."""
        return f"{self.ae_title}@{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """Read `AET@HOST:PORT`; `AET@` may be left out, and an IPv6 address stands in brackets.

    Raises:
        ConfigError: it is written otherwise.
    """
    title, _, address = text.rpartition("@")
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        number = int(port)
        title = validate_ae_title(title or DEFAULT_CALLED_AE_TITLE)
    except ValueError:
        number = 0
    if not host or not 1 <= number <= 65535:
        raise ConfigError(f"{text!r}: expected AET@HOST:PORT, for example PACS@10.0.0.5:104")
    return Target(title, host, number)


def echo(peer: str, *, calling_ae_title: str, timeout_s: float) -> int:
    """Verify one peer; exit code 0 when it answers success.

    Raises:
        ConfigError: peer or AE title are written wrongly.
        CommandError: nobody is there, the association was rejected, or no success came.
    """
    target = parse_target(peer)
    try:
        title = validate_ae_title(calling_ae_title)
    except ValueError as error:
        raise ConfigError(f"flag --aet {calling_ae_title!r}: expected {error}") from error
    from pynetdicom import build_context
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    from lfscp.upperlayer.requestor import associate

    started = time.monotonic()
    try:
        association = associate(
            (target.host, target.port),
            calling_ae_title=title,
            called_ae_title=target.ae_title,
            contexts=[build_context(Verification)],
            acse_timeout_s=timeout_s,
            dimse_timeout_s=timeout_s,
            network_timeout_s=timeout_s,
            connection_timeout_s=timeout_s,
        )
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror or error}") from error
    if association.is_rejected:
        raise CommandError(f"{target} rejected the association: {_reason(association)}")
    if not association.is_established:
        raise CommandError(f"{target} does not answer; is it running, and the address right?")
    try:
        status = association.send_c_echo()
    except ValueError as error:  # pynetdicom: no accepted presentation context
        raise CommandError(f"{target} does not support Verification") from error
    finally:
        if association.is_established:
            association.release()
    if "Status" not in status:
        raise CommandError(f"{target} did not answer the C-ECHO within {timeout_s:g} s")
    if status.Status != 0x0000:
        raise CommandError(f"{target} answered the C-ECHO with status 0x{status.Status:04X}")
    sys.stdout.write(f"{target} answers, {(time.monotonic() - started) * 1000:.0f} ms\n")
    return 0


def _reason(association: object) -> str:
    primitive = getattr(getattr(association, "acceptor", None), "primitive", None)
    return str(getattr(primitive, "reason_str", "no reason given"))
