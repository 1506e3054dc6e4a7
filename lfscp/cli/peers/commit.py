"""The command `commit`: asks another node whether it keeps what it was sent, and waits for it.

The report comes on the association that the command opens, while the peer uses that; or on one
that the peer opens to our AE title. For the second the command listens itself, or it waits for what
the running node of an archive takes. The exit code is 0 when the peer has committed to everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lfscp.cli.errors import CommandError, OptionError
from lfscp.cli.index_beside_node import open_index
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.peers.addressed import Login, peer_of
from lfscp.cli.peers.files import find_objects
from lfscp.cli.peers.options import (
    ApplicationEntity,
    CaFile,
    CertificateFile,
    Insecure,
    Json,
    KeyFile,
    PasswordFile,
    Timeout,
    Tls,
    User,
)
from lfscp.cli.terminal import (
    Interrupt,
    counted,
    interruptible,
    progress_bar,
    tell,
    tell_json,
    warn,
)

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.workflow.commitment.references import Reference
    from lfscp.archive.workflow.commitment.requests import Taken
    from lfscp.scu.commit import Question
    from lfscp.scu.peer import Peer
    from lfscp.services.commitment.n_event_report import Report

_LOOK_EVERY_S: Final = 0.5
_OUR_TITLE: Final = "LFSCP"
_MAX_PORT: Final = 65535


def commit(
    peer: ApplicationEntity,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Files and folders that were sent there."),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="UID", help="A study of the archive. May be given several times."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Take reports here too, for a peer that opens a new association for them. It "
            "must know our AE title with this address.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest wait for the reports.", min=0.1)
    ] = 300.0,
    aet: Annotated[
        str | None,
        typer.Option(
            "--aet",
            "-aet",
            metavar="TITLE",
            help="Our AE title. [default: LFSCP, or the title of the node with --study, --config "
            "or --data-dir]",
        ),
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    user: User = None,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Ask another node whether it keeps objects (N-ACTION).

    It reports later which of them it commits to keep. This is storage commitment.

    With --study, --config or --data-dir, a running node of that archive takes the report.
    """
    settings = settings_of(config, data_dir) if study or config or data_dir else None
    title = aet or (settings.server.ae_title if settings else _OUR_TITLE)
    asked = peer_of(
        peer, title, timeout, tls, ca, cert, key_file, insecure, Login(user, password_file)
    )
    if not paths and not study:
        raise OptionError("nothing to ask for: expected files, folders or --study UID")
    if "@" not in peer and (listen or settings):
        raise OptionError(
            f"{peer}: expected AET@HOST:PORT, a report is taken by its sender's title"
        )
    if settings is None:
        _keep_log_quiet()
    listener = None if listen is None else _address(listen)
    with ExitStack() as opened:
        index = opened.enter_context(open_index(settings, "use the index")) if settings else None
        references, is_broken = _references(paths or [], index, study or [])
        command = _Command(asked, index, references, wait)
        cancel = opened.enter_context(interruptible())
        if listener is not None:
            opened.enter_context(_listening(title, listener, command))
        command.perform(cancel)
        is_committed = command.tell(as_json=as_json)
    if cancel.is_set():
        raise typer.Exit(cancel.exit_code)
    raise typer.Exit(0 if is_committed and not is_broken else 1)


class _Command:
    """One run: asks, waits for reports, and says what they are.

    Args:
        index: of the archive whose node takes reports too; None when there is none.
        wait_s: longest wait for reports.
    """

    def __init__(
        self, peer: Peer, index: Index | None, references: Sequence[Reference], wait_s: float
    ) -> None:
        from lfscp.archive.workflow.commitment.requests import CommitmentRequests
        from lfscp.scu.commit import Question, portions
        from lfscp.scu.in_memory_requests import InMemoryRequests

        self._peer = peer
        self._requests = CommitmentRequests(index) if index else InMemoryRequests()
        self.is_listening = index is not None
        self._wait_s = wait_s
        parts = list(portions(references))
        uids = self._requests.add(peer.ae_title, parts)
        self._questions = list(map(Question, uids, parts))
        self._total = len(references)

    def keep(self, report: Report, ae_title: str) -> Taken:
        """Keep a report that has come to this command."""
        return self._requests.report(
            report.transaction_uid, ae_title, report.committed, report.failures
        )

    def perform(self, cancel: Interrupt) -> None:
        """Ask, and wait for the reports."""
        from lfscp.scu.commit import ask

        with progress_bar("waiting for the report") as show:
            show(0, self._total, "")

            def is_complete() -> bool:
                left = [each for each in self._questions if not self._is_reported(each)]
                show(self._total - sum(len(each.references) for each in left), self._total, "")
                return not left

            deadline = time.monotonic() + self._wait_s
            for question in self._questions:
                ask(
                    self._peer,
                    question,
                    keep=self.keep,
                    is_enough=partial(self._is_reported, question),
                    wait_s=max(0.0, deadline - time.monotonic()),
                    on_asked=partial(self._requests.asked, question.transaction_uid),
                    cancel=cancel,
                )
                is_complete()
            while self.is_listening and not is_complete() and time.monotonic() < deadline:
                if cancel.wait(_LOOK_EVERY_S):
                    break

    def _is_reported(self, question: Question) -> bool:
        return self._requests.is_reported(question.transaction_uid)

    def tell(self, *, as_json: bool) -> bool:
        """Print what was reported; whether everything is committed to."""
        from lfscp.archive.workflow.commitment.failure_reasons import words_there

        found = [self._requests.get(each.transaction_uid) for each in self._questions]
        reported = [each for each in found if each is not None and each.failures is not None]
        failures = [failure for each in reported for failure in each.failures or ()]
        committed = sum(len(each.committed) for each in reported)
        left = self._total - committed - len(failures)
        if as_json:
            failed = [{**each._asdict(), "words": words_there(each.reason)} for each in failures]
            tell_json({"committed": committed, "failed": failed, "not_reported": left})
            return committed == self._total
        for each in failures:
            tell(f"{each.sop_instance_uid}  {words_there(each.reason)}")
        objects = counted(self._total, "object", "objects")
        tell(f"{self._peer} commits to {committed} of {objects}")
        if left:
            warn(f"lfscp: no report on {counted(left, 'object', 'objects')}; {self._advice()}")
        return committed == self._total

    def _advice(self) -> str:
        if self.is_listening:
            title = self._peer.calling_ae_title
            return f"does {self._peer.ae_title} know the address of {title}? Or --wait longer"
        return "if the node opens a new association for it, give --listen PORT, or --data-dir"


@contextmanager
def _listening(title: str, address: tuple[str, int], command: _Command) -> Iterator[None]:
    from lfscp.scu.report_listener import listening

    command.is_listening = True
    with ExitStack() as opened:
        try:
            opened.enter_context(listening(title, address, command.keep))
        except OSError as error:
            where = f"{address[0]}:{address[1]}" if address[0] else f"port {address[1]}"
            raise CommandError(f"cannot listen on {where}: {error.strerror or error}") from None
        yield


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= _MAX_PORT:
        raise OptionError(f"flag --listen {text}: expected PORT or HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _keep_log_quiet() -> None:
    from lfscp.observe import logging

    logging.configure("warning")


def _references(
    paths: Sequence[Path], index: Index | None, studies: Sequence[str]
) -> tuple[list[Reference], bool]:
    """What to ask for, each once, and whether a file is a broken object."""
    from lfscp.archive.workflow.commitment.references import Reference

    files = find_objects(paths, "not asked for")
    found = [Reference(each.sop_class_uid, each.sop_instance_uid) for each in files.instances]
    for study in studies:
        found += _of_study(index, study)
    if not found:
        raise CommandError("there is no DICOM file to ask for")
    return list({each.sop_instance_uid: each for each in found}.values()), files.is_any_broken


def _of_study(index: Index | None, study: str) -> list[Reference]:
    from lfscp.archive.index.database.interruption import Interruption
    from lfscp.archive.workflow.commitment.references import Reference
    from lfscp.dicom.values.attributes import Level

    rows = index.select({Level.STUDY: [study]}, Interruption()) if index else ()
    found = [Reference(row[0], row[1]) for row in rows]
    if not found:
        raise CommandError(f"there is no study {study} in the archive")
    return found
