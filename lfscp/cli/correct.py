"""The commands `correct study`, `patient`, `list`, `confirm` and `undo`, as the page does it."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lfscp.cli.errors import CommandError, OptionError
from lfscp.cli.index_beside_node import open_index
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.stopped_node import open_beside_or_stopped, require_index
from lfscp.cli.terminal import counted, tell, tell_json, warn
from lfscp.cli.trail import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from lfscp.archive.archive import Archive
    from lfscp.archive.correctable import Asked, Row
    from lfscp.config import Settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Correct studies and patients. The node may be running.",
)

_OF_PATIENT: Final = "PatientName, PatientID, IssuerOfPatientID, PatientBirthDate or PatientSex"
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
CorrectionID = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]


@app.command()
def study(  # noqa: PLR0913, RUF100 - an option each
    uid: Annotated[str, typer.Argument(metavar="UID", help="The Study Instance UID.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEYWORD=VALUE...",
            help=f"{_OF_PATIENT}, StudyDescription or AccessionNumber.",
        ),
    ] = None,
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="PATIENT_ID", help="Move it to this patient of the archive."
        ),
    ] = "",
    of: Annotated[
        str,
        typer.Option(
            "--of",
            metavar="PATIENT_ID",
            help="The patient of the study, if several patients have a study of this UID.",
        ),
    ] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
) -> None:
    """Correct a study, or move it to another patient.

    The old objects stay until you confirm or undo the correction.
    """
    from lfscp.archive import correctable

    def find(connection: Connection) -> list[Row]:
        found = correctable.studies_named(connection, uid)
        rows = [row for row in found if not of or row["patient_id"] == of]
        if not rows:
            raise CommandError(f"there is no study {uid}{f' of patient {of}' if of else ''}")
        if len(rows) > 1:
            whose = ", ".join(str(row["patient_id"] or "no ID") for row in rows)
            raise CommandError(f"several patients have the study ({whose}); say which with --of")
        return rows

    _correct(settings_of(config, data_dir), find, (changes or [], into), dry_run=dry_run)


@app.command()
def patient(  # noqa: PLR0913, RUF100 - an option each
    patient_id: Annotated[str, typer.Argument(metavar="PATIENT_ID", help="The Patient ID.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEYWORD=VALUE...", help=f"{_OF_PATIENT}."),
    ] = None,
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="PATIENT_ID", help="Merge with this patient of the archive."
        ),
    ] = "",
    issuer: Annotated[
        str,
        typer.Option(
            "--issuer", metavar="ISSUER", help="Issuer of the Patient ID, if several have the same."
        ),
    ] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
) -> None:
    """Correct all studies of a patient, or merge the patient into another one.

    The old objects stay until you confirm or undo the correction.
    """
    from lfscp.archive import correctable
    from lfscp.archive.correcting import OF_PATIENT

    for keyword in _read(changes or []):
        if keyword not in OF_PATIENT:
            expected = f"one of {', '.join(OF_PATIENT)} for all studies of a patient"
            raise OptionError(f"{keyword}: expected {expected}")

    def find(connection: Connection) -> list[Row]:
        rows = correctable.studies_of(connection, _patient(connection, patient_id, issuer))
        if len(rows) > correctable.MAX_STUDIES:
            most = f"more than {correctable.MAX_STUDIES:,} studies"
            raise CommandError(f"{most}; correct them one by one")
        return rows

    _correct(settings_of(config, data_dir), find, (changes or [], into), dry_run=dry_run)


@app.command("list")
def list_(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List the corrections, the newest first."""
    from lfscp.archive.index.correction_states import list_corrections

    with (
        open_index(settings_of(config, data_dir), "read the index") as index,
        index.engine.connect() as connection,
    ):
        found = list_corrections(connection)
    for each in found:
        if as_json:
            tell_json(each)
        else:
            changes = ", ".join(f"{word}={value}" for word, value in each["changes"].items())
            studies = counted(len(each["studies"]), "study", "studies")
            tell(f"{each['id']}  {each['state']}, {studies}, by {each['user']}: {changes}")


@app.command()
def confirm(correction: CorrectionID, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Confirm a correction: the old objects are removed."""
    from lfscp.archive import correcting

    with _opened(settings_of(config, data_dir)) as (archive, _):
        _require_ended(archive, correction)
        correcting.confirm(archive, correction)
    tell(f"correction {correction} is confirmed; the old objects are removed")


@app.command()
def undo(correction: CorrectionID, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Undo a correction: the old objects take their place again."""
    from lfscp.archive import correcting

    with _opened(settings_of(config, data_dir)) as (archive, _):
        _require_ended(archive, correction)
        correcting.undo(archive, correction)
    tell(f"correction {correction} is undone")


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Archive, str]]:
    """The archive, and the user as the audit trail names him."""
    require_index(settings)
    archive, _ = open_beside_or_stopped(settings)
    with archive, recorded(settings) as user:
        yield archive, user


def _correct(
    settings: Settings, find: Any, given: tuple[Sequence[str], str], *, dry_run: bool
) -> None:
    """Say what changes, and change it.

    Args:
        find: gives the rows of the studies.
        given: changes as they were typed, and the Patient ID to move to.
    """
    asked = _asked(settings, find, given)
    for each in asked.differences:
        tell(f"{each['keyword']}: {' or '.join(map(repr, each['before']))} -> {each['after']!r}")
    studies = counted(len(asked.rows), "study", "studies")
    if dry_run:
        tell(f"{studies} would be corrected")
        return
    correction_id = uuid.uuid4().hex
    with _opened(settings) as (archive, user):
        failed = _perform(archive, settings, asked, (correction_id, user))
    done = len(asked.rows) - failed
    if done:
        tell(f"{counted(done, 'study', 'studies')} corrected")
        tell(f"to keep it: lfscp correct confirm {correction_id}")
        tell(f"to undo it: lfscp correct undo {correction_id}")
    raise typer.Exit(1 if failed else 0)


def _asked(settings: Settings, find: Any, given: tuple[Sequence[str], str]) -> Asked:
    from lfscp.archive import correctable
    from lfscp.archive.correcting import CorrectionError, require_changes
    from lfscp.archive.errors import StudyProtectedError

    changes, into = _read(given[0]), given[1]
    with open_index(settings, "read the index") as index, index.engine.connect() as connection:
        rows = find(connection)
        moved = (
            correctable.identity_of(connection, _patient(connection, into)) if into else None
        ) or {}
        protected = correctable.first_protected(connection, rows)
    if protected:
        raise StudyProtectedError(protected, "correct the study")
    try:
        asked = correctable.Asked(rows, require_changes({**moved, **changes}))
    except CorrectionError as error:
        raise OptionError(str(error)) from None
    if not asked.differences:
        raise CommandError("nothing would change: all studies have these values already")
    return asked


def _perform(archive: Archive, settings: Settings, asked: Asked, who: tuple[str, str]) -> int:
    """Correct the studies; how many could not be."""
    from lfscp.archive.correcting import Correction
    from lfscp.archive.errors import ArchiveError
    from lfscp.archive.index.correction_states import CorrectionEndedError
    from lfscp.dicom.errors import DatasetError

    correction_id, user = who
    ae_title = settings.server.ae_title
    correction = Correction(archive, correction_id, asked.changes, ae_title, user)
    correction.begin()
    failed = 0
    try:
        for row in asked.rows:
            try:
                correction.correct(row["id"])
            except CorrectionEndedError:
                undone = f"correction {correction_id} was undone while it ran"
                raise CommandError(f"{undone}; the studies are as they were") from None
            except (ArchiveError, DatasetError) as error:
                failed += 1
                warn(f"{row['study_instance_uid']}: {error}")
    finally:
        correction.end()
    return failed


def _read(changes: Sequence[str]) -> Mapping[str, str]:
    """What was typed, by keyword."""
    found: dict[str, str] = {}
    for each in changes:
        keyword, is_given, value = each.partition("=")
        if not is_given:
            raise OptionError(f"{each}: expected KEYWORD=VALUE")
        found[keyword] = value
    return found


def _patient(connection: Connection, patient_id: str, issuer: str = "") -> int:
    """The key of the patient with a Patient ID."""
    from lfscp.archive.correctable import patients_named

    keys = patients_named(connection, patient_id, issuer)
    if not keys:
        raise CommandError(f"no patient in the archive has the Patient ID {patient_id}")
    if len(keys) > 1:
        raise CommandError(f"several patients have the Patient ID {patient_id}; say the issuer too")
    return keys[0]


def _require_ended(archive: Archive, correction_id: str) -> None:
    """Refuse a correction whose job has not ended."""
    from sqlalchemy import select

    from lfscp.archive.index.tables.job_tables import job

    wanted = select(job.c.state).where(job.c.id == correction_id)
    with archive.index.doing("read the index"), archive.index.engine.connect() as connection:
        state = connection.execute(wanted).scalar()
    if state in ("sleeping", "active", "paused"):
        raise CommandError(f"its job is {state}; wait for its end, or cancel it on the page")
