"""The commands `retention`, `protect` and `unprotect`.

All but `retention` without an option may run beside the node.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.errors import CommandError
from lfscp.cli.index_beside_node import open_index
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.stopped_node import require_index
from lfscp.cli.terminal import tell
from lfscp.cli.trail import recorded

if TYPE_CHECKING:
    from lfscp.archive.index.clock import Clock
    from lfscp.archive.index.index import Index
    from lfscp.archive.upkeep.retention import Candidate, Limits
    from lfscp.config import Settings

Study = Annotated[str, typer.Argument(metavar="UID", help="A Study Instance UID.")]


def retention(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would go. The node may be running.")
    ] = False,
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right", help="Delete nothing, but trust the clock. The node may be running."
        ),
    ] = False,
) -> None:
    """Delete the studies that exceed the limits in [retention].

    A running node does it by itself; stop it first, or use --dry-run.
    """
    settings = settings_of(config, data_dir)
    if clock_is_right:
        _trust_clock(settings)
    elif dry_run:
        _show_candidates(settings)
    else:
        _delete_candidates(settings)


def _trust_clock(settings: Settings) -> None:
    from lfscp.archive.index.clock_readings import wall_ms

    with open_index(settings, "write to the index") as index:
        _clock(settings, index).confirm()
    tell(f"the clock is trusted: it is {_shown(wall_ms())} UTC")


def _show_candidates(settings: Settings) -> None:
    from lfscp.archive.index.clock_readings import wall_ms
    from lfscp.archive.upkeep.retention import candidates, usage

    limits = _limits(settings)
    with open_index(settings, "read the index") as index:
        old_ms = _clock(settings, index).peek()
        with index.engine.connect() as connection:
            used = usage(connection)
            going = list(candidates(connection, limits, used, wall_ms(), old_ms))
    for each in going:
        _tell_study(each)
    _tell_if_not_trusted(old_ms)
    instances, size = sum(each.instances for each in going), sum(each.bytes for each in going)
    tell(f"{len(going)} studies with {instances} instances, {size / 1e6:.1f} MB, would go")


def _delete_candidates(settings: Settings) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from lfscp.archive.errors import ArchiveError, ArchiveInUseError
    from lfscp.archive.index.database.database import reason_of
    from lfscp.archive.upkeep.retention import Retention
    from lfscp.node.parts import begin_trail, open_archive
    from lfscp.observe import audit

    limits = _limits(settings)
    require_index(settings)
    try:
        archive = open_archive(settings)
    except ArchiveInUseError as error:
        every = f"{settings.retention.interval_s:g} s"
        raise CommandError(f"{error.reason}, and does this itself every {every}") from error
    with archive:
        begin_trail(settings)
        try:
            gone = Retention(archive, limits, lambda study, _: _tell_study(study)).run()
        except SQLAlchemyError as error:
            raise ArchiveError("write to the index", reason_of(error)) from None
        finally:
            audit.stop()
        _tell_if_not_trusted(archive.trusted_ms())
    tell(f"{gone} studies deleted")


def protect(uid: Study, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Protect a study from deletion and change.

    The node may be running.
    """
    from lfscp.archive.index.protection import protect

    settings = settings_of(config, data_dir)
    with open_index(settings, "write to the index") as index, recorded(settings):
        if not protect(index, uid):
            raise CommandError(f"there is no study {uid}")
        _record(index, uid, "protected")
    tell(f"{uid} is protected")


def unprotect(uid: Study, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Let a protected study be deleted again.

    The node may be running.
    """
    from lfscp.archive.index.protection import unprotect

    settings = settings_of(config, data_dir)
    with open_index(settings, "write to the index") as index, recorded(settings):
        if not unprotect(index, uid):
            raise CommandError(f"study {uid} is not protected")
        _record(index, uid, "no longer protected")
    tell(f"{uid} is no longer protected")


def _record(index: Index, study_uid: str, what: str) -> None:
    from lfscp.archive.index.browsing.named_studies import named_studies
    from lfscp.observe import audit
    from lfscp.observe.audit.message import Patient

    with index.doing("read the index"), index.engine.connect() as connection:
        whose = named_studies(connection, [study_uid]).get(study_uid)
    patient = whose and Patient(whose.patient_id, whose.patient_name)
    audit.changed(study_uid, {"what": what}, patient)


def _limits(settings: Settings) -> Limits:
    from lfscp.node.parts import retention_limits

    limits = retention_limits(settings)
    if not limits.is_any:
        raise CommandError("no limit is set; set retention.max_gb, max_age_days or max_studies")
    return limits


def _clock(settings: Settings, index: Index) -> Clock:
    from lfscp.archive.index.clock import Clock
    from lfscp.archive.node_id import node_id

    return Clock(index=index, node=node_id(settings.data_dir) if index.is_shared else "")


def _tell_study(study: Candidate) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(study.updated_at / 1000))
    size = f"{study.instances} instances, {study.bytes / 1e6:.1f} MB"
    tell(f"{study.study_uid}  {size}, last received {day}, over the limit of {study.reason}")


def _tell_if_not_trusted(old_ms: int) -> None:
    from lfscp.archive.index.clock_readings import JUMP_MS, wall_ms

    if wall_ms() - old_ms > JUMP_MS:
        tell(
            f"the clock is not trusted: ages count until {_shown(old_ms)} UTC; if the clock is "
            "right, run `lfscp retention --clock-is-right`"
        )


def _shown(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms / 1000))
