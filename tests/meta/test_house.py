"""The description of the house, lfscp/README.md: what it names exists, and the ways are walked."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from lfscp.config.passwords import new_token
from tests.support.served_archive import CT, Node, image, served
from tests.support.web_app import serving

ROOT: Final = Path(__file__).parents[2]
HOUSE: Final = ROOT / "lfscp"
README: Final = (HOUSE / "README.md").read_text(encoding="utf-8")
MAX_FILES: Final = 20  # on the way of a C-STORE
# In text between backticks, and in the boxes of the picture.
NAMED: Final = re.compile(r"`([\w./]+\.(?:py|html)|[\w/]+/)`|</b> ([\w/]+\.py)<br/>")
ROOM: Final = re.compile(r'^\*\*`(\w+/)`|subgraph \w+\["(\w+/)')
STEP: Final = re.compile(r"^\| \d+ \| \[`[\w./]+`\]\(([\w./]+)\)([^|]*)\|", re.MULTILINE)
TABLED: Final = re.compile(r"\[`[\w./]+`\]\(([\w./]+)\)((?:,? `\w[\w.]*`)+)")


def files_named() -> Iterator[tuple[str, str]]:
    """Each file and folder that is named, with the room that its sentence is about."""
    room = ""
    for line in README.splitlines():
        if line.startswith("#") or line.strip() == "end":
            room = ""
        elif found := ROOM.search(line):
            room = found[1] or found[2]
        for match in NAMED.finditer(line):
            yield match[1] or match[2], room


def section(title: str) -> str:
    """The text below a heading, to the next one of any size."""
    text = re.split(rf"\n##+ {re.escape(title)}\n", README, maxsplit=1)[1]
    return re.split(r"\n##+ ", text, maxsplit=1)[0]


def steps(title: str) -> list[tuple[str, list[str]]]:
    """The steps of a way: the file of each, and the functions or classes that are named for it."""
    return [
        (path, re.findall(r"`([\w.]+)`", names)) for path, names in STEP.findall(section(title))
    ]


def test_every_file_and_folder_that_is_named_exists():
    missing = [
        name
        for name, room in files_named()
        if not (HOUSE / name).exists() and not (HOUSE / room / name).exists()
    ]
    assert missing == []


def test_every_room_is_named():
    rooms = {str(each.parent.relative_to(HOUSE)) for each in HOUSE.glob("*/__init__.py")}
    below = {str(each.parent.relative_to(HOUSE)) for each in HOUSE.glob("*/*/__init__.py")}
    named = {(room if name.startswith(room) else room + name) for name, room in files_named()}
    named |= {name for name, _ in files_named()}
    assert {f"{each}/" for each in rooms | below} <= named


def test_the_rooms_stand_in_the_order_of_their_imports():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    height = {
        name.strip().removeprefix("lfscp."): number
        for number, names in enumerate(layers)
        for name in names.split("|")
    }
    table = README.split("| room |", 1)[1].split("\n\n", 1)[0]
    rooms = re.findall(r"^\| `(\w+)/`", table, re.MULTILINE)
    assert [height[room] for room in rooms] == sorted(height[room] for room in rooms)


@pytest.mark.parametrize(("path", "names"), TABLED.findall(README))
def test_every_function_and_class_that_is_named_is_in_its_file(path, names):
    source = (HOUSE / path).read_text(encoding="utf-8")
    for name in re.findall(r"`([\w.]+)`", names):
        for part in name.split("."):
            assert re.search(rf"^ *(?:async )?(?:def|class) {part}\b", source, re.MULTILINE), name


def test_the_way_of_a_c_store_is_short():
    assert len({path for path, _ in steps("The way of a C-STORE")}) <= MAX_FILES


@contextmanager
def watched() -> Iterator[set[tuple[str, str]]]:
    """Every function of lfscp that runs here, or in a thread that starts meanwhile: file, name."""
    ran: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(HOUSE)):
            ran.add((str(Path(code.co_filename).relative_to(HOUSE)), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield ran
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def has_run(ran: set[tuple[str, str]], path: str, name: str) -> bool:
    """Whether a function ran, or anything of a class."""
    return any(where == path and f".{name}." in f".{what}." for where, what in ran)


@contextmanager
def asking(ae: AE, port: int) -> Iterator[Association]:
    """An association for one operation."""
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    yield association
    association.release()


@pytest.fixture(scope="module")
def stored_and_found(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """What runs for two C-STOREs, and for a C-FIND with a part of a name."""
    with watched() as ran, served(tmp_path_factory.mktemp("archive")) as node:
        ae = AE()
        ae.add_requested_context(CT)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        for _ in range(2):  # the second finds its series
            with asking(ae, node.port) as association:
                stored = association.send_c_store(image(study="1.2.3", series="1.2.3.4"))
                assert stored.Status == 0x0000
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ""
        query.PatientName = "D*e^J*"
        with asking(ae, node.port) as association:
            found = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
            assert [status.Status for status, _ in found] == [0xFF00, 0x0000]
    return ran


def page_shown(folder: Path, *paths: str) -> set[tuple[str, str]]:
    """What runs when a user with a login looks at pages of an archive with one study."""
    token, hashed = new_token()
    with watched() as ran, serving(folder, web={"token_hash": hashed}) as client:
        archive = client.app.state.web.archive  # type: ignore[attr-defined]
        Node(archive, port=0).store(image(study="1.2.3", series="1.2.3.4"))
        for path in paths:
            page = client.get(path, headers={"Authorization": f"Bearer {token}"})
            assert page.status_code == 200
    return ran


def frame_fetched(folder: Path) -> set[tuple[str, str]]:
    """What runs when a viewer asks for a frame."""
    with watched() as ran, serving(folder) as client:
        archive = client.app.state.web.archive  # type: ignore[attr-defined]
        stored = image(study="1.2.3", series="1.2.3.4")
        Node(archive, port=0).store(stored)
        uid = stored.SOPInstanceUID
        path = f"/dicom-web/studies/1.2.3/series/1.2.3.4/instances/{uid}/frames/1"
        answer = client.get(path, headers={"Accept": "multipart/related; type=*/*"})
        assert answer.status_code == 200
    return ran


@pytest.mark.parametrize("title", ["The way of a C-STORE", "The way of a C-FIND"])
def test_each_step_of_a_dicom_service_is_walked(title, stored_and_found):
    for path, names in steps(title):
        assert names, path
        for name in names:
            assert has_run(stored_and_found, path, name), f"{path} {name}"


def test_each_step_of_a_page_is_walked(tmp_path):
    ran = page_shown(tmp_path, "/studies/1.2.3", "/", "/archive/rows")
    ways = steps("The way of a page")[1:]  # uvicorn's connection is not in this client
    for path, names in [*ways, *steps("The list of studies")]:
        if not path.endswith(".html"):
            assert names, path
        for name in names:
            assert has_run(ran, path, name), f"{path} {name}"


def test_each_step_of_a_frame_is_walked(tmp_path):
    ran = frame_fetched(tmp_path)
    for path, names in steps("The way of a frame"):
        assert names, path
        for name in names:
            assert has_run(ran, path, name), f"{path} {name}"
