"""The commands `worklist add`, `list`, `remove` and `import`.

They may run beside the node, and also while no node runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lfscp.cli.index_beside_node import open_index
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.terminal import counted, tell, tell_json, warn
from lfscp.cli.trail import recorded

if TYPE_CHECKING:
    from lfscp.archive.workflow.worklist.worklist import Worklist, WorklistItem
    from lfscp.config import Settings
    from lfscp.dicom.models.element_tree import Tree

SOURCE: Final = "command"
_PAGE: Final = 500
_TOGETHER: Final = 200  # items that share a transaction
_HEADINGS: Final = (
    *("ID", "STATUS", "DATE", "TIME", "STATION", "MODALITY"),
    *("PATIENT ID", "PATIENT", "ACCESSION", "SOURCE"),
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and change the modality worklist. The node may be running.",
)


@app.command()
def add(
    item: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|KEYWORD=VALUE...",
            help="A file of DICOM JSON (.json), a worklist file (.wl), or attributes, such as "
            "PatientName=DOE^JANE. Attributes of the step go into its sequence. They may also "
            "change those of a file.",
        ),
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Add an item to the worklist."""
    from lfscp.cli.worklist_datasets import item_of

    settings = settings_of(config, data_dir)
    dataset = item_of(item)
    with _worklist(settings) as worklist:
        item_id = worklist.add(dataset, source=SOURCE)
        _record_created(worklist.get(item_id))
    tell(f"item {item_id} is added")


@app.command("list")
def list_(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    text: Annotated[
        str,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="Only items with this in the patient's name or an identifier.",
        ),
    ] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only items with a step of this status, such as SCHEDULED or COMPLETED. May be "
            "given several times.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List the worklist, the newest first.

    Each step has a line.
    """
    settings = settings_of(config, data_dir)
    with open_index(settings, "read the worklist") as index:
        from lfscp.archive.workflow.worklist.worklist import Worklist

        found = _items(Worklist(index), text, [each.upper() for each in status or ()])
        if as_json:
            for item in found:
                tell_json(_as_json(item))
        else:
            _tell_table([row for item in found for row in _rows(item)])


@app.command()
def remove(
    item: Annotated[list[int], typer.Argument(metavar="ID...", help="As `list` shows it.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Remove items from the worklist.

    The item of a file in worklist.folder goes with its file only.
    """
    from lfscp.archive.workflow.worklist_folder.folder import source_of

    settings = settings_of(config, data_dir)
    with _worklist(settings) as worklist:
        folder = source_of(settings.data_dir)
        removed = sum(_remove(worklist, item_id, folder) for item_id in dict.fromkeys(item))
    tell(f"{counted(removed, 'item', 'items')} removed")
    raise typer.Exit(0 if removed == len(set(item)) else 1)


@app.command("import")
def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files, or folders of worklist files (.wl). Folders in a folder are read too, "
            "one level deep.",
        ),
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Add the items of files. What is not taken is named with the reason.

    An item that was imported before is replaced: the same study and steps. The files may go
    afterwards.
    """
    from lfscp.cli.worklist_datasets import files_below

    files = files_below(paths)
    with _worklist(settings_of(config, data_dir)) as worklist:
        taken = sum(
            _import(worklist, files[at : at + _TOGETHER]) for at in range(0, len(files), _TOGETHER)
        )
    refused = len(files) - taken
    tell(f"{taken} taken" + (f", {refused} not taken" if refused else ""))
    raise typer.Exit(1 if refused else 0)


@contextmanager
def _worklist(settings: Settings) -> Iterator[Worklist]:
    """The worklist to change, and the audit trail, in which the user acts who runs this."""
    from lfscp.archive.workflow.worklist.worklist import Worklist

    with open_index(settings, "write to the worklist") as index, recorded(settings):
        yield Worklist(index)


def _record_created(item: WorklistItem | None) -> None:
    from lfscp.observe.audit.message import CREATE

    if item is not None:
        _record(CREATE, item)


def _record(action: str, item: WorklistItem) -> None:
    from lfscp.archive.workflow.worklist.audit_record import record_item

    record_item(action, item.dataset, {"worklist item": item.id})


def _remove(worklist: Worklist, item_id: int, folder: str) -> bool:
    """Remove one item, or say why it stays.

    Args:
        folder: the source of items of this node's folder.
    """
    from lfscp.observe.audit.message import DELETE

    item = worklist.get(item_id)
    if item is not None and item.source == folder:
        warn(f"item {item_id} is of the file {item.source_key}; remove the file instead")
        return False
    if item is not None and item.is_of_file:
        warn(
            f"item {item_id} is of the file {item.source_key} of another node; it comes again if "
            "that node runs"
        )
    if item is None or not worklist.remove(item_id):
        warn(f"there is no item {item_id}")
        return False
    _record(DELETE, item)
    return True


def _import(worklist: Worklist, files: Sequence[Path]) -> int:
    """Take some files in one transaction; gives how many are taken."""
    from lfscp.cli.worklist_datasets import read_file
    from lfscp.errors import OperationError
    from lfscp.observe import audit

    read: dict[str, Tree] = {}
    files_of: dict[str, list[Path]] = {}
    for file in files:
        try:
            dataset = read_file(file)
        except OperationError as error:
            warn(f"{file}: {error.reason}")
        else:
            key = _key(dataset)
            read[key] = dataset
            files_of.setdefault(key, []).append(file)
    refused = worklist.put_valid(SOURCE, [(key, dataset, "") for key, dataset in read.items()])
    for key, reason in refused.items():
        for file in files_of.pop(key):
            warn(f"{file}: {reason.reason}")
    if audit.is_on():
        for key in files_of:
            _record_created(worklist.find_by_key(SOURCE, key))
    return sum(map(len, files_of.values()))


def _key(dataset: Tree) -> str:
    """Names an item, so that it is there once however often it is imported."""
    from lfscp.archive.workflow.worklist.item import STEP_ID, STEPS, STUDY_INSTANCE_UID
    from lfscp.dicom.models.element_tree import encode_tree

    steps = [step.text(STEP_ID) for step in dataset.sequence(STEPS)]
    study_uid = dataset.text(STUDY_INSTANCE_UID)
    is_named = study_uid and all(steps)
    name = "\n".join((study_uid, *steps)) if is_named else encode_tree(dataset).hex()
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _items(worklist: Worklist, text: str, statuses: Sequence[str]) -> Iterator[WorklistItem]:
    after = 0
    while page := worklist.items(text=text, statuses=statuses, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _as_json(item: WorklistItem) -> dict[str, object]:
    from lfscp.dicom.models.json_writer import to_json

    return {
        "id": item.id,
        "source": item.source,
        "source_key": item.source_key,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "dataset": to_json(item.dataset),
    }


def _rows(item: WorklistItem) -> Iterator[tuple[str, ...]]:
    """A line for each step."""
    from lfscp.archive.workflow.worklist import item as tags

    of_item = [item.dataset.text(tag) for tag in (tags.PATIENT_ID, tags.PATIENT_NAME)]
    of_item += [item.dataset.text(tags.ACCESSION_NUMBER), _shown_source(item)]
    for step in item.dataset.sequence(tags.STEPS):
        day, at = step.text(tags.START_DATE), step.text(tags.START_TIME)
        yield (
            str(item.id),
            step.text(tags.STATUS),
            f"{day[:4]}-{day[4:6]}-{day[6:]}",
            f"{at[:2]}:{at[2:4] or '00'}",
            step.text(tags.STATION_AE_TITLE),
            step.text(tags.MODALITY),
            *of_item,
        )


def _shown_source(item: WorklistItem) -> str:
    return item.source_key if item.is_of_file else item.source


def _tell_table(rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        warn("the worklist has no such items")
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        tell("  ".join(cells).rstrip())
