"""What echo, find, get, move and send do for a person or a script at a terminal.

Results go to standard output, progress and problems to standard error; exit code 0 when all was
done, 1 when something failed, 130 when Ctrl-C cancelled it and 143 when SIGTERM did (the peer gets
a C-CANCEL).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

from lfscp.cli.failures import CommandError
from lfscp.cli.terminal import printable, tell, tell_json, warn
from lfscp.config import ConfigError
from lfscp.config.checks import validate_ae_title
from lfscp.scu.errors import GivenUpError, PeerError
from lfscp.scu.identifiers import identifier, plain
from lfscp.scu.peer import Peer

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import Received, StoredInstance
    from lfscp.scu.parts import RetrieveProgress, RetrieveResult
    from lfscp.services.sending.sub_operations import Outcome

DEFAULT_CALLED_AE_TITLE: Final = "ANY-SCP"  # as DCMTK's clients
LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_WARNING: Final = 2  # of these signals one cancels, the second cleans up, the third does not
_MOST_REMARKS: Final = 20  # on objects that are not taken
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")
_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")


def peer(
    target: str,
    aet: str,
    timeout_s: float,
    *,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
) -> Peer:
    """The peer that options name. TLS files without --tls mean TLS as well.

    Raises:
        ConfigError: something is written wrongly.
    """
    title, _, address = target.rpartition("@")
    host, _, port = address.rpartition(":")
    try:
        number = int(port)
        title = validate_ae_title(title or DEFAULT_CALLED_AE_TITLE)
    except ValueError:
        number = 0
    if not host or not 1 <= number <= 65535:
        raise ConfigError(f"{target!r}: expected AET@HOST:PORT, for example PACS@10.0.0.5:104")
    for file in (ca, cert, key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{file}: there is no such file")
    try:
        return Peer(
            title,
            host,
            number,
            calling_ae_title=aet,
            tls=tls or insecure or bool(ca or cert or key),
            tls_ca_file=None if ca is None else str(ca),
            tls_certificate_file=None if cert is None else str(cert),
            tls_key_file=None if key is None else str(key),
            tls_verify=not insecure,
            connect_timeout_s=min(10.0, timeout_s),
            acse_timeout_s=min(30.0, timeout_s),
            dimse_timeout_s=timeout_s,
        )
    except ValueError as error:
        raise ConfigError(f"{target}: {error}") from None


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: keys by keyword, level, information model."""

    keys: dict[str, str]
    level: str
    model: str

    def identifier(self) -> Dataset:
        """As it is sent."""
        return identifier(self.keys, self.level)


def query(keys: list[str], level: str | None, *, patient: bool, study: bool, psonly: bool) -> Query:
    """The query that options name.

    Raises:
        ConfigError: an unknown key or level, a value that a key cannot have, or several models.
    """
    if patient + study + psonly > 1:
        raise ConfigError("flags --patient, --study, --psonly: expected one of them")
    named = dict(_key(text) for text in keys)
    chosen = (named.pop("QueryRetrieveLevel", "") or level or "STUDY").upper()
    if chosen not in LEVELS:
        raise ConfigError(f"flag --level {chosen}: expected one of {', '.join(LEVELS)}")
    model = "patient" if patient else "patient-study" if psonly else "study"
    asked = Query(named, chosen, model)
    try:
        asked.identifier()
    except ValueError as error:
        raise ConfigError(f"flag --key {error}") from None
    return asked


def _key(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    name = name.strip()
    tag = _TAG.fullmatch(name)
    if tag is not None:
        name = keyword_for_tag(int(tag[1] + tag[2], 16))
    if not name or tag_for_keyword(name) is None:
        raise ConfigError(
            f"flag --key {text!r}: expected a keyword or tag of the DICOM dictionary, "
            "for example PatientName=DOE*"
        )
    return name, value


def echo(asked: Peer, *, as_json: bool) -> int:
    """Verify one peer."""
    from lfscp.scu.echo import echo as ask

    with _failing(), _interruptible() as cancel:
        answer = ask(asked, cancel=cancel)
    if as_json:
        tell_json(asdict(answer))
    else:
        tell(f"{asked} answers, {answer.duration_ms:.0f} ms")
    return 0


def find(asked: Peer, wanted: Query, *, limit: int | None, as_json: bool) -> int:
    """Query one peer, and print each match as it comes."""
    from lfscp.scu.find import find as ask

    count = 0
    with _failing(), _interruptible() as cancel:
        try:
            for match in ask(asked, wanted.identifier(), wanted.model, cancel=cancel):
                values = plain(match)
                if as_json:
                    tell_json(values)
                else:
                    _print_match(count, values)
                count += 1
                if count == limit:
                    cancel.set()
        except PeerError:
            if count != limit:  # else it only went on in spite of the C-CANCEL
                raise
    if not as_json:
        tell(counted(count, "match", "matches"))
    return cancel.exit_code if cancel.is_set() and count != limit else 0


def counted(number: int, one: str, several: str) -> str:
    """A number of things, in words."""
    return f"{number} {one if number == 1 else several}"


def _print_match(number: int, values: dict[str, Any]) -> None:
    if number:
        tell("")
    width = max(map(len, values), default=0)
    for keyword, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        tell(f"{keyword:<{width}}  {text}")


def get(asked: Peer, wanted: Query, folder: Path, *, as_json: bool) -> int:
    """Retrieve into a folder."""
    from lfscp.scu.retrieve import get as ask

    folder.mkdir(parents=True, exist_ok=True)
    saved = _Saved(folder)
    with _failing(), _interruptible() as cancel, _following("retrieving") as follow:
        result = ask(
            asked,
            wanted.identifier(),
            on_object=saved.save,
            model=wanted.model,
            sop_classes=_sop_classes(asked, wanted, cancel),
            progress=follow,
            cancel=cancel,
            spool_dir=folder,
            on_refused=_Remarks().refused,
        )
        return _retrieved(result, saved.facts(), cancel, as_json=as_json)


class _Remarks:
    """What is said of objects that were not taken: of the first of them."""

    def __init__(self) -> None:
        self._count = 0

    def refused(self, sop_instance_uid: str, reason: str) -> None:
        """Say why one was not taken."""
        self._count += 1
        if self._count <= _MOST_REMARKS:
            warn(f"lfscp: {sop_instance_uid}: not stored, {reason}")
        if self._count == _MOST_REMARKS:
            warn("lfscp: further ones are not listed")


def _sop_classes(asked: Peer, wanted: Query, cancel: threading.Event) -> list[str]:
    """What is to come, as far as the peer tells; with it, objects come as they are stored."""
    from lfscp.scu.sop_classes import sop_classes_of

    try:
        return sop_classes_of(asked, wanted.keys, wanted.model, cancel)
    except GivenUpError:
        raise
    except PeerError:
        return []  # the C-GET itself will say what is wrong, if anything is


class _Saved:
    """Objects written into a folder, each as a DICOM file with its UID as name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bytes = 0
        self.count = 0

    def save(self, received: Received) -> int | Dataset:
        """Write one; an error becomes the status that the peer gets."""
        from lfscp.dicom.part10 import part10_header
        from lfscp.services import status

        uid = received.sop_instance_uid
        if not _UID.fullmatch(uid):
            return status.with_reason(status.CANNOT_UNDERSTAND, "no valid SOP Instance UID")
        target = self._folder / f"{uid}.dcm"
        piece = self._folder / f"{uid}.part"
        try:
            if received.dataset is None:
                if received.spooled_path is None:
                    return status.with_reason(status.CANNOT_UNDERSTAND, "there is no dataset")
                spooled = Path(received.spooled_path)
                self.bytes += spooled.stat().st_size - received.dataset_offset
                spooled.replace(target)
            else:
                with piece.open("wb") as file:
                    file.write(
                        part10_header(
                            received.sop_class_uid,
                            uid,
                            received.transfer_syntax_uid,
                            received.calling_ae_title,
                        )
                    )
                    file.write(received.dataset)
                piece.replace(target)
                self.bytes += len(received.dataset)
        except OSError as error:
            piece.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            warn(f"lfscp: {target}: {reason}")
            return status.with_reason(status.OUT_OF_RESOURCES, reason)
        self.count += 1
        return status.SUCCESS

    def facts(self) -> dict[str, Any]:
        """What was written, and where."""
        return {"files": self.count, "bytes": self.bytes, "folder": str(self._folder)}


def move(asked: Peer, wanted: Query, destination: str, *, as_json: bool) -> int:
    """Have objects sent to `destination`."""
    from lfscp.scu.retrieve import move as ask

    with _failing(), _interruptible() as cancel, _following("moving") as follow:
        result = ask(
            asked,
            wanted.identifier(),
            destination,
            model=wanted.model,
            progress=follow,
            cancel=cancel,
        )
        return _retrieved(result, {"destination": destination}, cancel, as_json=as_json)


def _retrieved(
    result: RetrieveResult, facts: dict[str, Any], cancel: _Interrupt, *, as_json: bool
) -> int:
    done = result.completed + result.warning
    if as_json:
        tell_json({**asdict(result), **facts})
    else:
        where = facts.get("folder") or facts.get("destination")
        failed = f", {result.failed} failed" if result.failed else ""
        comment = f" ({result.comment})" if result.comment else ""
        is_nothing = not (done or result.failed or result.is_cancelled)
        matched = "nothing matches: " if is_nothing else ""
        objects = counted(done, "object", "objects")
        tell(f"{matched}{objects} to {where}{failed}{comment}")
    if result.is_cancelled:
        return cancel.exit_code
    return 1 if result.failed else 0


def send(asked: Peer, paths: list[Path], *, as_json: bool) -> int:
    """Send files and folders."""
    from lfscp.scu.send import objects_in
    from lfscp.scu.send import send as ask

    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file or folder")
    others: list[dict[str, str]] = []
    lost: list[Path] = []

    def other(file: Path, reason: str) -> None:
        others.append({"file": str(file), "reason": reason})
        warn(f"lfscp: {file}: not sent, {reason}")

    def broken(file: Path, reason: str) -> None:
        other(file, reason)
        lost.append(file)

    def note_odd(file: Path, note: str) -> None:
        warn(f"lfscp: {file}: {note}")

    instances = objects_in(paths, on_other=other, on_broken=broken, on_note=note_odd)
    if not instances:
        raise CommandError("there is no DICOM file to send")
    with _failing(), _interruptible() as cancel, _bar("sending", len(instances)) as bar:
        done = 0

        def note(instance: StoredInstance, outcome: Outcome, reason: str) -> None:
            nonlocal done
            del outcome
            done += 1
            bar.show(done, len(instances), f"{instance.path}: {reason}" if reason else "")

        result = ask(asked, instances, on_sent=note, cancel=cancel)
    if as_json:
        tell_json({**asdict(result), "not_sent": others})
    else:
        failed = f", {len(result.failed)} failed" if result.failed else ""
        left = f", {result.left} left" if result.left else ""
        tell(f"{result.completed + result.warning} sent{failed}{left}")
    if cancel.is_set():
        return cancel.exit_code
    return 1 if result.failed or lost else 0


# --- what they share ---


@contextmanager
def _failing() -> Iterator[None]:
    """The peer's failures as one line for the user."""
    try:
        yield
    except PeerError as error:
        raise CommandError(str(error)) from error


class _Interrupt(threading.Event):
    """Set by a signal; `exit_code` says by which, as shells do."""

    exit_code = 128 + signal.SIGINT


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Ctrl-C and SIGTERM set the event, so that a C-CANCEL goes out; a second one ends at once."""
    cancel = _Interrupt()
    signals: list[int] = []

    def handle(number: int, _frame: object) -> None:
        signals.append(number)
        if len(signals) > _LAST_WARNING:
            os._exit(cancel.exit_code)
        if len(signals) == _LAST_WARNING:
            warn("lfscp: interrupted")
            sys.exit(cancel.exit_code)
        cancel.exit_code = 128 + number
        cancel.set()

    before = {number: signal.signal(number, handle) for number in _ENDING_SIGNALS}
    try:
        yield cancel
    except PeerError as error:
        if not signals:
            raise
        warn(f"lfscp: {error}")
        sys.exit(cancel.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Bar:
    """A progress bar on standard error, if that is a terminal; else only what is remarked on."""

    def show(self, done: int, total: int | None, remark: str = "") -> None:
        """Show how far it is, and something that shall stay to be read."""
        del done, total
        if remark:
            warn(remark)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[_Bar]:
    """A bar for as long as something lasts."""
    if not sys.stderr.isatty():
        yield _Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)

        class Drawn(_Bar):
            def show(self, done: int, total: int | None, remark: str = "") -> None:
                if remark:
                    console.print(printable(remark), markup=False, highlight=False)
                progress.update(task, completed=done, total=total)

        yield Drawn()


@contextmanager
def _following(what: str) -> Iterator[Callable[[RetrieveProgress], None]]:
    """A bar that follows a retrieve's counters."""
    with _bar(what, None) as bar:

        def follow(counters: RetrieveProgress) -> None:
            done = counters.completed + counters.failed + counters.warning
            bar.show(done, None if counters.remaining is None else done + counters.remaining)

        yield follow
