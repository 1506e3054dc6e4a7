"""Makes worklist items of what a user gives: a file, or attributes as KEYWORD=VALUE."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from lfscp.archive.workflow.worklist.item import MODALITY, STEPS
from lfscp.archive.workflow.worklist_folder.file import (
    MAX_BYTES,
    WorklistFileError,
    read_worklist_file,
)
from lfscp.archive.workflow.worklist_folder.listing import list_folder
from lfscp.cli.errors import OptionError
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.models.json_reader import from_json
from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS
from lfscp.errors import OperationError

_JSON_ENDING: Final = ".json"
_REQUESTED_CONTRAST_AGENT: Final = 0x00321070
# Scheduled Station AE Title to Scheduled Procedure Step Status.
_FIRST_OF_STEP: Final = 0x00400001
_LAST_OF_STEP: Final = 0x00400020


def read_file(path: Path) -> Tree:
    """The dataset of a DICOM JSON file (.json) or a worklist file.

    Raises:
        OperationError: it cannot be read, or is none.
    """
    if path.suffix.lower() != _JSON_ENDING:
        try:
            return read_worklist_file(path).dataset
        except FileNotFoundError:
            raise WorklistFileError("there is no such file") from None
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise WorklistFileError(error.strerror or str(error)) from None
    if len(content) > MAX_BYTES:
        raise WorklistFileError(f"it has more than {MAX_BYTES >> 20} MB")
    return from_json(_one(_parsed(content)))


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        where = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise WorklistFileError(f"it is no JSON{where}") from None


def _one(document: object) -> object:
    """The dataset of a document, which may be a list of one."""
    if not isinstance(document, list):
        return document
    if len(document) != 1:
        raise WorklistFileError(f"it has {len(document)} datasets; give one in each file")
    return document[0]


def item_of(arguments: Sequence[str]) -> Tree:
    """The item of the arguments of `add`: at most one file, and attributes that go over it.

    Raises:
        OptionError: an argument is wrong.
        OperationError: the file or a value is.
    """
    files = [each for each in arguments if not _is_attribute(each)]
    if len(files) > 1:
        raise OptionError(f"{files[1]}: add takes one file; `lfscp worklist import` takes several")
    item = Tree()
    for file in files:
        try:
            item = read_file(Path(file))
        except OperationError as error:
            raise OptionError(f"{file}: {error.reason}") from None
    of_item, of_step = _read_attributes(each for each in arguments if _is_attribute(each))
    item.update(of_item)
    if of_step:
        steps = item.sequence(STEPS) or [Tree()]
        if len(steps) > 1:
            raise OptionError(f"{files[0]} has {len(steps)} steps; change them in the file")
        steps[0].update(of_step)
        item[STEPS] = Element(b"SQ", steps)
    return item


def _is_attribute(argument: str) -> bool:
    keyword, equals, _ = argument.partition("=")
    return bool(equals) and keyword.isalnum() and keyword.isascii()


def _read_attributes(arguments: Iterator[str]) -> tuple[Tree, Tree]:
    """The attributes of the item, and those of its step."""
    of_item: dict[str, Any] = {}
    of_step: dict[str, Any] = {}
    for argument in arguments:
        keyword, _, value = argument.partition("=")
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise OptionError(f"{keyword}: no attribute has this keyword{_nearest(keyword)}")
        vr = dictionary_VR(tag)
        if vr == "SQ":
            raise OptionError(f"{keyword}: give a sequence in a file")
        into = of_step if _is_of_step(tag) else of_item
        into[keyword] = value if vr in SINGLE_VALUE_VRS else value.split("\\")
    return from_json(of_item), from_json(of_step)


def _is_of_step(tag: int) -> bool:
    return _FIRST_OF_STEP <= tag <= _LAST_OF_STEP or tag in (MODALITY, _REQUESTED_CONTRAST_AGENT)


def _nearest(keyword: str) -> str:
    found = difflib.get_close_matches(keyword, keyword_dict, 1)
    return f"; did you mean {found[0]}?" if found else ""


def files_below(paths: Sequence[Path]) -> list[Path]:
    """The files to import: those named, and the worklist files of folders.

    Raises:
        OptionError: one is not there, or a folder cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise OptionError(f"{path}: there is no such file or folder")
            found.append(path)
            continue
        try:
            listing = list_folder(path)
        except OSError as error:
            raise OptionError(f"{path}: {error.strerror or error}") from None
        found += [listing.path(name) for name in sorted(listing.files)]
    return found
