"""What a node cannot have: room on the disk, its data folder, its port."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.dcmtk import contents
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import made
from tests.support.small_disk import fill, small_disk

FLAGS = ("--no-http", "--port", "0")
LARGE, SMALL = 6_000_000, 1_000_000  # bytes: spooled while it arrives, and in memory


@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["spooled", "in memory"])
def test_a_full_disk_refuses_the_object_and_nothing_else(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, size: int
) -> None:
    with small_disk(tmp_path / "disk", "5m") as disk:
        filler = disk / "filler"
        node = start_node(configuration=f'objects.url = "file://{disk}/objects"')
        filler.write_bytes(bytes(5 * 1024 * 1024 - 150_000))
        fits = made(tmp_path, PixelData=bytes(10_000))
        dcmtk.done(dcmtk.store(node.port, fits))
        too_large = made(tmp_path, PixelData=bytes(size))
        refused = dcmtk.run("storescu", "-d", "-R", "127.0.0.1", node.port, too_large)
        assert refused.status == 0xA700, refused.output[-2000:]
        line = node.wait_for(level="warning")["event"]
        assert too_large.stem in line
        assert "0xA700" in line
        assert set(contents(disk / "objects")) == {fits.stem}
        assert dcmtk.echo(node.port).code == 0
        filler.unlink()
        again = made(tmp_path, PixelData=bytes(SMALL))
        dcmtk.done(dcmtk.store(node.port, again))
        assert set(contents(disk / "objects")) == {fits.stem, again.stem}
        assert node.stop() == 0


def test_a_full_disk_under_the_index_is_a_refusal_too(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        objects = tmp_path / "objects"
        flags = ["--data-dir", disk / "data"]  # the last one counts
        node = start_node(flags=flags, configuration=f'objects.url = "file://{objects}"')
        fill(disk / "filler")
        file = made(tmp_path)
        refused = dcmtk.run("storescu", "-d", "-R", "127.0.0.1", node.port, file)
        assert refused.status == 0xA700, refused.output[-2000:]
        assert contents(objects) == {}
        (disk / "filler").unlink()
        dcmtk.done(dcmtk.store(node.port, file))
        assert set(contents(objects)) == {file.stem}
        assert node.stop() == 0


def fails(*arguments: object, code: int = 1, **options: Any) -> str:
    """The one line of a command that fails."""
    result = run_lfscp(*arguments, **options)
    assert result.returncode == code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("lfscp: ")
    return lines[0]


def test_a_data_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    unwritable = "/sys/lfscp" if os.geteuid() == 0 else folder  # root may write almost anywhere
    line = fails("serve", *FLAGS, "--data-dir", unwritable)
    assert str(unwritable) in line
    assert "write" in line or "permitted" in line


def test_a_data_folder_that_another_node_uses(node: NodeProcess) -> None:
    for command in (["serve", *FLAGS], ["check", "--rebuild"]):
        line = fails(*command, "--data-dir", node.data_dir)
        assert "another node uses" in line or "stop" in line
        assert str(node.data_dir) in line


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        flags = ("--no-http", "--host", "127.0.0.1", "--port", port, "--data-dir", tmp_path)
        line = fails("serve", *flags)
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert run_lfscp("check", "--data-dir", tmp_path).returncode == 0  # the folder is free again


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    line = fails("serve", *FLAGS, "--host", "192.0.2.1", "--data-dir", tmp_path)
    assert "192.0.2.1" in line


def test_an_index_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"no database at all, and longer than its header" * 9)
    line = fails("serve", *FLAGS, "--data-dir", tmp_path)
    assert "index" in line
