"""A real node with a folder of worklist files, as DCMTK's tools make them, and findscu asks it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.worklist_files import bare, cut_in_an_element, put, rewrite

DUMP = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [A{number}]
(0010,0010) PN [VIVALDI^ANTONIO]
(0010,0020) LO [P{number}]
(0020,000d) UI [1.2.276.0.7230010.3.2.{number}]
(0032,1060) LO [EXAM6]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MR]
(0040,0001) AE [AA32\\AA33]
(0040,0002) DA [20261206]
(0040,0003) TM [110000]
(0040,0009) SH [SPD3445]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [RP454G234]
"""
SOON_S = 60.0  # in which a watch has told what it saw, on a machine that builds something else


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "worklist"
    made.mkdir()
    return made


@pytest.fixture
def configuration(folder: Path) -> str:
    return f'[worklist]\nfolder = "{folder}"\n'


@pytest.fixture
def dumped(dcmtk: Any, tmp_path: Path) -> Callable[..., bytes]:
    """What DCMTK's dump2dcm makes of an item, as a DICOM file or as a dataset."""

    def dumped(number: int, *options: str) -> bytes:
        source, made = tmp_path / "item.dump", tmp_path / "item.wl"
        source.write_text(DUMP.format(number=number))
        dcmtk.done(dcmtk.run("dump2dcm", *options, source, made))
        return made.read_bytes()

    return dumped


def asked(dcmtk: Any, node: NodeProcess, **keys: str) -> list[str]:
    """The Patient IDs that findscu gets."""
    given = [part for each in {"PatientID": "", **keys}.items() for part in ("-k", "=".join(each))]
    result = dcmtk.done(dcmtk.run("findscu", "-v", "-W", *given, "127.0.0.1", node.port))
    responses = result.output.partition("Find Response")[2]  # behind its own request
    assert "Failed" not in responses
    return sorted(re.findall(r"\(0010,0020\) LO \[(\S+?) *\]", responses))


def soon(found: Callable[[], list[str]], expected: list[str]) -> None:
    """Ask until the answer is the expected one."""
    until = time.monotonic() + SOON_S
    while (answer := found()) != expected:
        assert time.monotonic() < until, answer


@pytest.mark.parametrize("workers", [1, 3])
def test_files_of_dump2dcm_are_answered_as_they_come_change_and_go(
    dcmtk: Any,
    start_node: StartNode,
    folder: Path,
    configuration: str,
    dumped: Callable[..., bytes],
    workers: int,
) -> None:
    put(folder / "first.wl", dumped(1))
    (folder / "lockfile").touch()
    node = start_node(flags=["--workers", workers], configuration=configuration)
    assert asked(dcmtk, node, PatientName="VIVALDI*") == ["P1"]
    (folder / "AA32").mkdir()
    put(folder / "AA32" / "second.WL", dumped(2, "-F"), at=int(time.time()))
    for _ in range(workers + 1):  # whichever worker has the association
        assert asked(dcmtk, node) == ["P1", "P2"]
    put(folder / "first.wl", dumped(3), at=int(time.time()))
    for _ in range(workers + 1):
        assert asked(dcmtk, node) == ["P2", "P3"]
    (folder / "AA32" / "second.WL").unlink()
    assert asked(dcmtk, node) == ["P3"]
    assert asked(dcmtk, node, AccessionNumber="A3") == ["P3"]
    assert asked(dcmtk, node, AccessionNumber="A1") == []


@pytest.mark.parametrize("flags", [(), ("--workers", 2), ("--workers", 2, "--http-port", 0)])
def test_a_file_written_in_place_is_seen_by_the_watch(
    dcmtk: Any, start_node: StartNode, folder: Path, configuration: str, flags: tuple[Any, ...]
) -> None:
    path = put(folder / "one.wl", bare(1))
    node = start_node(flags=list(flags), configuration=configuration)
    assert asked(dcmtk, node) == ["P1"]
    for patient in ("P8", "P9"):
        rewrite(path, bare(1, PatientID=patient))
        soon(lambda: asked(dcmtk, node), [patient])


def test_broken_files_are_named_once_by_a_node_with_workers(
    dcmtk: Any, start_node: StartNode, folder: Path, configuration: str
) -> None:
    put(folder / "good.wl", bare(1))
    put(folder / "text.wl", b"no dataset")
    put(folder / "cut.wl", cut_in_an_element(bare(2)))
    with (folder / "huge.wl").open("wb") as file:
        file.truncate(1 << 30)
    os.utime(folder / "huge.wl", (1, 1))
    node = start_node(flags=["--workers", 3], configuration=configuration)
    node.wait_for("a worklist file is not taken", count=3)
    for number in range(5):
        assert asked(dcmtk, node) == ["P1", *(f"P{each}" for each in range(10, 10 + number))]
        put(folder / f"{number}.wl", bare(10 + number))
    named = node.events("a worklist file is not taken")
    assert sorted(each["file"] for each in named) == ["cut.wl", "huge.wl", "text.wl"]
    put(folder / "cut.wl", bare(2))
    assert "P2" in asked(dcmtk, node)


def test_a_folder_that_is_not_there_stops_the_start_with_file_key_and_expectation(
    tmp_path: Path, folder: Path, configuration: str
) -> None:
    folder.rmdir()
    (tmp_path / "lfscp.toml").write_text(configuration)
    result = run_lfscp("serve", "--config", tmp_path / "lfscp.toml", "--data-dir", tmp_path / "d")
    assert result.returncode == 2
    assert result.stderr == (
        f'lfscp: {tmp_path}/lfscp.toml: worklist.folder = "{folder}": '
        "expected a folder that is there and that the node may read\n"
    )
    assert not (tmp_path / "d").exists()


def test_items_stay_while_the_folder_is_away_and_go_when_the_node_has_none(
    dcmtk: Any, start_node: StartNode, folder: Path, configuration: str
) -> None:
    put(folder / "one.wl", bare(1))
    node = start_node(configuration=configuration)
    node.wait_for("worklist files taken")
    away = folder.rename(folder.with_name("away"))
    node.wait_for("the worklist folder is not there, its items stay")
    assert asked(dcmtk, node) == ["P1"]
    node.reload(configuration + '[logging]\nlevel = "debug"\n')
    away.rename(folder)
    put(folder / "two.wl", bare(2))
    assert asked(dcmtk, node) == ["P1", "P2"]
    assert node.stop() == 0
    assert len(node.events("the worklist folder is not there, its items stay")) == 1
    without = start_node(configuration="")
    assert without.data_dir == node.data_dir
    without.wait_for("the items of an earlier worklist folder are removed", removed=2)
    assert asked(dcmtk, without) == []


def test_items_are_whole_and_there_once_after_kill_9_in_the_middle_of_many(
    dcmtk: Any, start_node: StartNode, folder: Path, configuration: str
) -> None:
    for number in range(300):
        put(folder / f"{number}.wl", bare(number))
    node = start_node(configuration=configuration, flags=["--workers", 1])
    assert asked(dcmtk, node, PatientID="P0") in ([], ["P0"])  # it answers meanwhile
    node.kill()
    node.start()
    soon(lambda: [str(len(asked(dcmtk, node)))], ["300"])
    assert len(set(asked(dcmtk, node))) == 300


def test_the_commands_work_beside_a_node_and_without_one(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, index_url: str | None
) -> None:
    configuration = f'[index]\nurl = "{index_url or ""}"\n'
    node = start_node(flags=["--workers", 2], configuration=configuration)
    options = ("--config", node.data_dir.parent / "lfscp.toml", "--data-dir", node.data_dir)

    def worklist(*arguments: object) -> str:
        result = run_lfscp("worklist", *arguments, *options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    put(tmp_path / "a.wl", bare(1))
    assert worklist("add", tmp_path / "a.wl") == "item 1 is added\n"
    assert asked(dcmtk, node) == ["P1"]
    assert node.stop() == 0
    assert worklist("remove", 1) == "1 item removed\n"
