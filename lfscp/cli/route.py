"""The commands `route list`, `route test`, and those that steer a queue.

They may run beside the node, and also while no node runs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lfscp.cli.errors import CommandError, OptionError
from lfscp.cli.index_beside_node import open_index
from lfscp.cli.options import ConfigFile, DataDir, configure_logging, resolve
from lfscp.cli.stopped_node import objects_folder
from lfscp.cli.terminal import counted, tell, tell_json, warn
from lfscp.cli.trail import recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lfscp.config import Settings
    from lfscp.routing.explaining import Explained
    from lfscp.routing.routes import Route
    from lfscp.routing.steering import QueueState
    from lfscp.rules.conditions.subject import Subject

_HEADINGS: Final = (
    *("ROUTE", "DESTINATION", "STATE", "WAITING", "HELD", "GIVEN UP", "OLDEST", "SENT", "REASON"),
)
_STEPS: Final = {"d": 86_400, "h": 3_600, "min": 60}

RouteName = Annotated[str, typer.Argument(metavar="ROUTE", help="Name of the route.")]
Destination = Annotated[str, typer.Argument(metavar="PEER", help="A peer of the route.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and test the routes, and control their queues. The node may run.",
)


@app.command("list")
def list_(config: ConfigFile = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """List the queues of all routes: what waits for each destination."""
    from lfscp.routing.steering import queue_states

    settings, routes = _routes(config, data_dir)
    with open_index(settings, "read the queues of routes") as index:
        states = queue_states(index, routes)
    if as_json:
        for state in states:
            tell_json(asdict(state))
    else:
        _tell_table(list(map(_row, states)))


@app.command("test")
def explain(
    target: Annotated[
        str,
        typer.Argument(metavar="FILE|STUDY", help="A DICOM file, or a Study Instance UID."),
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    calling: Annotated[
        str | None,
        typer.Option("--calling", metavar="AET", help="As if this AE title had sent the object."),
    ] = None,
    called: Annotated[
        str, typer.Option("--called", metavar="AET", help="As if this AE title had been called.")
    ] = "",
    address: Annotated[
        str, typer.Option("--address", metavar="IP", help="As if it had come from this address.")
    ] = "",
    as_json: AsJSON = False,
) -> None:
    """Say what each route would do with an object or a study, and why. Nothing is sent.

    The exit code is 0 if it would go somewhere, else 1.
    """
    from lfscp.routing.explaining import explain_study

    settings, routes = _routes(config, data_dir)
    if not routes:
        raise CommandError("no route is configured")
    how = (calling, called, address)
    if Path(target).is_file():
        paths = [Path(target)]
        subjects, study_uid = _of_file(paths[0], how)
    else:
        paths = _paths_of_study(settings, target)
        subjects, study_uid = [_of_file(path, how)[0][0] for path in paths], target
    found = explain_study(routes, subjects, study_uid)
    for each, route in zip(found, routes, strict=True):
        does = _actions(settings, route, paths, subjects) if each.goes else []
        if as_json:
            tell_json({**asdict(each), "actions": does})
        else:
            for line in (_told(each), *(f"  {one}" for one in does)):
                tell(line)
    raise typer.Exit(0 if any(each.goes for each in found) else 1)


@app.command()
def pause(
    route: RouteName, peer: Destination, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Send nothing from a queue until `resume`. What comes waits in it."""
    _steer("pause", route, peer, config, data_dir)


@app.command()
def resume(
    route: RouteName, peer: Destination, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Send from a queue that was paused."""
    _steer("resume", route, peer, config, data_dir)


@app.command()
def flush(
    route: RouteName, peer: Destination, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Send now what waits, also of studies that are not complete."""
    _steer("flush", route, peer, config, data_dir)


@app.command()
def retry(
    route: RouteName, peer: Destination, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Try again what was given up."""
    _steer("retry", route, peer, config, data_dir)


@app.command()
def drop(
    route: RouteName,
    peer: Destination,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    given_up: Annotated[bool, typer.Option("--given-up", help="Only what was given up.")] = False,
) -> None:
    """Forget what waits in a queue. The objects stay in the archive."""
    _steer("drop", route, peer, config, data_dir, only_given_up=given_up)


def _routes(config: ConfigFile, data_dir: DataDir) -> tuple[Settings, tuple[Route, ...]]:
    """The settings and their routes.

    Raises:
        ConfigError: they cannot be.
    """
    from lfscp.routing.reading import read_routes, require_routes

    resolved = resolve(config, {"data_dir": data_dir})
    configure_logging(resolved.settings, at_least="warning")
    require_routes(resolved)
    return resolved.settings, read_routes(resolved.settings)


def _steer(
    wish: str,
    route: str,
    peer: str,
    config: ConfigFile,
    data_dir: DataDir,
    *,
    only_given_up: bool = False,
) -> None:
    from lfscp.routing import steering
    from lfscp.routing.errors import UnknownQueueError
    from lfscp.routing.queue_rows import QueueName

    settings, routes = _routes(config, data_dir)
    name = QueueName(route, peer)
    with open_index(settings, "use the queues of routes") as index:
        try:
            steering.require_queue(index, routes, name)
        except UnknownQueueError as error:
            raise CommandError(str(error)) from None
        if wish == "drop":
            with recorded(settings):
                count: int | None = steering.drop(index, name, only_given_up=only_given_up)
        else:
            count = getattr(steering, wish)(index, name)
    done = {"pause": "paused", "resume": "resumed", "flush": "to be sent now"}
    done |= {"retry": "to be tried again", "drop": "forgotten"}
    objects = "" if count is None else f"{counted(count, 'object', 'objects')} "
    tell(f"{objects}{done[wish]}")


def _of_file(path: Path, how: tuple[str | None, str, str]) -> tuple[Sequence[Subject], str]:
    from lfscp.errors import OperationError
    from lfscp.routing.stored_subjects import file_subject

    try:
        found = file_subject(path, *how)
    except OperationError as error:
        raise CommandError(f"{path}: {error.reason}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"
        raise CommandError(f"{path}: {reason}") from None
    return [found.subject], found.study_uid


def _actions(
    settings: Settings, route: Route, paths: Sequence[Path], subjects: Sequence[Subject]
) -> list[str]:
    """What the actions of a route would do with the first object that meets its condition."""
    if not route.actions:
        return []
    from lfscp.errors import OperationError
    from lfscp.node.route_actions import means_of
    from lfscp.routing.actions.action import ActionSettingError
    from lfscp.routing.rehearsal import rehearse
    from lfscp.scu.files import read_instance

    pairs = zip(paths, subjects, strict=True)
    path, subject = next(pair for pair in pairs if route.condition.holds(pair[1]))
    try:
        instance = read_instance(path, lambda _note: None)
        origin = subject.calling_ae_title
        return rehearse(instance, route.actions, means_of(settings), origin)
    except ActionSettingError as error:
        key = ".".join(error.path)
        raise CommandError(f"route {route.name}: {key}: expected {error.expected}") from None
    except OperationError as error:
        raise CommandError(f"{path}: {error.reason}") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def _paths_of_study(settings: Settings, study_uid: str) -> list[Path]:
    from lfscp.archive.index.database.interruption import Interruption
    from lfscp.dicom.values.attributes import Level

    if settings.objects.is_bucket:
        raise OptionError("the objects are in a bucket; give a file, or ask the page of the node")
    with open_index(settings, "read the index") as index:
        paths = [
            objects_folder(settings) / row[3]
            for row in index.select({Level.STUDY: [study_uid]}, Interruption())
        ]
        if not paths:
            raise CommandError(f"{study_uid}: there is no such file, and no such study")
        return paths


def _told(each: Explained) -> str:
    if not each.goes:
        return f"{each.route}: no: {each.reason}"
    return f"{each.route}: to {', '.join(each.destinations)}, {each.when}: {each.reason}"


def _row(state: QueueState) -> tuple[str, ...]:
    return (
        state.route,
        state.destination,
        _state(state),
        str(state.waiting),
        str(state.held),
        str(state.given_up),
        _age(state.oldest_s) if state.waiting else "",
        str(state.sent),
        state.reason or state.given_up_reason,
    )


def _state(state: QueueState) -> str:
    if state.is_paused:
        return "paused"
    if not state.is_configured:
        return "no such route"
    if state.failures:
        return f"retry in {_age(state.retry_in_s)}"
    return "sending" if state.waiting and state.is_served else "ready"


def _age(seconds: float) -> str:
    for unit, length in _STEPS.items():
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _tell_table(rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        warn("no route is configured")
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        tell("  ".join(cells).rstrip())
