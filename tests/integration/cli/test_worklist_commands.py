"""lfscp worklist: items of attributes and files, listed, removed and imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.workflow.worklist.item import MODALITY, PATIENT_ID, STATUS, STEPS
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder
from lfscp.cli.errors import CommandError, OptionError
from lfscp.config import Settings
from lfscp.dicom.models.element_tree import Element
from lfscp.dicom.models.json_writer import to_json
from lfscp.errors import OperationError
from tests.support.worklist_files import bare, part10, put
from tests.support.worklist_items import scheduled_step, worklist_tree

STEP = (
    "Modality=CT",
    "ScheduledStationAETitle=CT01\\CT02",
    "ScheduledProcedureStepStartDate=20261201",
    "ScheduledProcedureStepStartTime=1000",
)

Run = Callable[..., int]


@pytest.fixture
def settings(tmp_path: Path, index_url: str | None) -> Settings:
    """Of an archive that is there; no node runs."""
    made = Settings.model_validate(
        {"data_dir": str(tmp_path / "data"), "index": {"url": index_url or ""}}
    )
    Archive.open(tmp_path / "data", index_url=index_url).close()
    return made


@pytest.fixture
def listed(run: Run, settings: Settings, capsys: Any) -> Callable[..., list[Any]]:
    """What `worklist list --json` prints."""

    def listed(*options: str) -> list[Any]:
        capsys.readouterr()
        assert run(settings, "worklist", "list", "--json", *options) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return listed


def test_an_item_of_attributes_has_those_of_the_step_in_its_sequence(
    run: Run, settings: Settings, listed: Any, capsys: Any
) -> None:
    given = ("PatientName=Müller^Jörg", "PatientID=1", "PregnancyStatus=4", *STEP)
    assert run(settings, "worklist", "add", *given) == 0
    assert capsys.readouterr().out == "item 1 is added\n"
    (item,) = listed()
    dataset = item["dataset"]
    assert item["source"] == "command"
    assert dataset["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert dataset["001021C0"] == {"vr": "US", "Value": [4]}
    (step,) = dataset["00400100"]["Value"]
    assert step["00080060"]["Value"] == ["CT"]
    assert step["00400001"]["Value"] == ["CT01", "CT02"]
    assert step["00400020"]["Value"] == ["SCHEDULED"]
    assert "00080060" not in dataset


@pytest.mark.parametrize("name", ["item.json", "item.wl", "item.dcm"])
def test_an_item_of_a_file_may_be_changed_by_attributes(
    run: Run, settings: Settings, listed: Any, tmp_path: Path, name: str
) -> None:
    tree = worklist_tree(7)
    content = json.dumps([to_json(tree)]).encode() if name == "item.json" else part10(7)
    (tmp_path / name).write_bytes(content)
    changes = ("PatientID=P8", "Modality=MR")
    assert run(settings, "worklist", "add", tmp_path / name, *changes) == 0
    tree[PATIENT_ID] = tree[PATIENT_ID]._replace(value="P8")
    step = tree.sequence(STEPS)[0]
    step[MODALITY] = step[MODALITY]._replace(value="MR")
    (item,) = listed()
    step[STATUS] = Element(b"CS", "SCHEDULED")
    assert item["dataset"] == to_json(tree)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("PatientNam=X",), "PatientNam: no attribute has this keyword; did you mean PatientName?"),
        (("ReferencedStudySequence=X",), "ReferencedStudySequence: give a sequence in a file"),
        (("nowhere.wl",), "nowhere.wl: there is no such file"),
        (("nowhere.json",), "nowhere.json: No such file or directory"),
        (("one.wl", "two.wl"), "one.wl: there is no such file"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    run: Run, settings: Settings, arguments: tuple[str, ...], complaint: str
) -> None:
    if len(arguments) == 2:
        complaint = "two.wl: add takes one file; `lfscp worklist import` takes several"
    with pytest.raises(OptionError) as error:
        run(settings, "worklist", "add", *arguments)
    assert str(error.value) == complaint
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("PatientName=Doe^Jane", *STEP), "PatientID is missing"),
        (("PatientName=Doe^Jane", "PatientID=1"), "ScheduledProcedureStepSequence is missing"),
        (("PatientBirthDate=1970",), "PatientBirthDate: expected a date YYYYMMDD"),
    ],
)
def test_what_is_no_item_is_refused_by_the_name_of_the_attribute(
    run: Run, settings: Settings, listed: Any, arguments: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(OperationError) as error:
        run(settings, "worklist", "add", *arguments)
    assert complaint in str(error.value)
    assert listed() == []


def test_json_that_is_none_is_refused(run: Run, settings: Settings, tmp_path: Path) -> None:
    for content, complaint in (
        (b"{", "it is no JSON: Expecting property name"),
        (b"\xff", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it has 0 datasets"),
        (b"3", "expected an object"),
        (b" " * 2_000_000, "it has more than 1 MB"),
    ):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(OptionError, match=complaint):
            run(settings, "worklist", "add", tmp_path / "a.json")


def test_a_file_with_several_steps_has_none_changed_by_attributes(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    steps = [scheduled_step(), scheduled_step(ScheduledProcedureStepID="S2")]
    put(tmp_path / "a.wl", part10(1, ScheduledProcedureStepSequence=steps))
    with pytest.raises(OptionError, match="has 2 steps"):
        run(settings, "worklist", "add", tmp_path / "a.wl", "Modality=MR")


def test_the_table_has_a_line_for_each_step_and_no_control_characters(
    run: Run, settings: Settings, capsys: Any, tmp_path: Path
) -> None:
    steps = [scheduled_step(), scheduled_step(ScheduledProcedureStepID="S2", Modality="MR")]
    values = {"PatientName": "Doe\x1b[31m", "ScheduledProcedureStepSequence": steps}
    put(tmp_path / "a.wl", bare(1, **values))
    run(settings, "worklist", "add", tmp_path / "a.wl")
    capsys.readouterr()
    assert run(settings, "worklist", "list") == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["ID", "STATUS", "DATE", "TIME"]
    assert first.split()[:6] == ["1", "SCHEDULED", "2026-12-01", "10:00", "CT01", "CT"]
    assert second.split()[5] == "MR"
    assert "Doe\\x1b[31m" in first
    assert run(settings, "worklist", "list", "--text", "nobody") == 0
    assert capsys.readouterr() == ("", "the worklist has no such items\n")


def test_items_are_listed_by_text_and_status_over_several_pages(
    run: Run, settings: Settings, listed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lfscp.cli.worklist._PAGE", 2)
    (tmp_path / "in").mkdir()
    for number in range(5):
        put(tmp_path / "in" / f"{number}.wl", bare(number))
    assert run(settings, "worklist", "import", tmp_path / "in") == 0
    assert [item["id"] for item in listed()] == [5, 4, 3, 2, 1]
    assert len(listed("--text", "p3")) == 1
    assert len(listed("--status", "scheduled", "--status", "READY")) == 5
    assert listed("--status", "COMPLETED") == []


def test_remove_says_what_is_not_there_and_leaves_the_items_of_files(
    run: Run, settings: Settings, listed: Any, capsys: Any, tmp_path: Path
) -> None:
    put(tmp_path / "a.wl", bare(1))
    put(tmp_path / "b.wl", bare(2))
    run(settings, "worklist", "import", tmp_path / "a.wl", tmp_path / "b.wl")
    with Archive.open(settings.data_dir, index_url=settings.index.url or None) as archive:
        folder = tmp_path / "folder"
        folder.mkdir()
        put(folder / "c.wl", bare(3))
        WorklistFolder(Worklist(archive.index), folder, settings.data_dir).compare()
    capsys.readouterr()
    assert run(settings, "worklist", "remove", 1, 1, 3, 77) == 1
    output, errors = capsys.readouterr()
    assert output == "1 item removed\n"
    assert errors.splitlines() == [
        "item 3 is of the file c.wl; remove the file instead",
        "there is no item 77",
    ]
    assert [item["id"] for item in listed()] == [3, 2]


def test_import_takes_the_good_files_names_the_others_and_takes_nothing_twice(
    run: Run, settings: Settings, listed: Any, capsys: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "CT01").mkdir(parents=True)
    put(folder / "a.wl", bare(1))
    put(folder / "CT01" / "b.WL", part10(2))
    put(folder / "lacks.wl", bare(3, PatientID=None))
    put(folder / "text.wl", b"no dataset")
    put(folder / "other.txt", b"no dataset")
    assert run(settings, "worklist", "import", folder) == 1
    output, errors = capsys.readouterr()
    assert output == "2 taken, 2 not taken\n"
    assert f"{folder}/lacks.wl: PatientID is missing" in errors
    assert f"{folder}/text.wl: no DICOM file" in errors
    assert run(settings, "worklist", "import", folder / "a.wl", folder / "a.wl") == 0
    assert capsys.readouterr().out == "2 taken\n"
    assert len(listed()) == 2
    put(folder / "a.wl", bare(1, PatientName="Doe^Janet"))
    assert run(settings, "worklist", "import", folder / "a.wl") == 0
    assert len(listed("--text", "janet")) == 1
    assert len(listed()) == 2
    with pytest.raises(OptionError, match="there is no such file or folder"):
        run(settings, "worklist", "import", tmp_path / "nowhere")


def test_what_people_do_is_in_the_audit_trail(run: Run, settings: Settings, tmp_path: Path) -> None:
    put(tmp_path / "a.wl", bare(1))
    run(settings, "worklist", "add", tmp_path / "a.wl")
    run(settings, "worklist", "import", tmp_path / "a.wl")
    run(settings, "worklist", "remove", "1")
    lines = settings.audit.path(settings.data_dir).read_text().splitlines()
    assert [("110111" in line, "P1" in line) for line in lines] == [(True, True)] * 3


def test_without_an_index_nothing_is_made(run: Run, tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": str(tmp_path / "none")})
    with pytest.raises(CommandError, match="there is no index"):
        run(settings, "worklist", "list")
    assert not (tmp_path / "none").exists()
