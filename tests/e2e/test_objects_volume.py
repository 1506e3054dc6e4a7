"""A real volume of objects that is not mounted: at a node's start, and while it runs (root)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_web_node import ask, page_of
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import made
from tests.support.small_disk import small_disk


class Volume:
    """A folder that can be mounted on another one."""

    def __init__(self, disk: Path, on: Path) -> None:
        self.disk = disk
        self.on = on
        on.mkdir()

    def mount(self) -> None:
        subprocess.run(["mount", "--bind", self.disk, self.on], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.on], check=True)

    @property
    def settings(self) -> dict[str, str]:
        return {"LFSCP_OBJECTS__URL": self.on.as_uri()}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    with small_disk(tmp_path / "disk", "100m") as disk:
        volume = Volume(disk, tmp_path / "volume")
        volume.mount()
        yield volume
        subprocess.run(["umount", "-lq", volume.on], check=False)


def below(volume: Volume) -> list[Path]:
    """What lies in the folder that the volume is mounted on."""
    return list(volume.on.iterdir())


def refused(node: NodeProcess, volume: Volume, *command: object) -> str:
    """Run a command that must not succeed: what it says."""
    done = run_lfscp(*command, "--data-dir", node.data_dir, env=volume.settings)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_without_its_volume_a_node_does_not_start_and_no_command_touches_the_archive(
    dcmtk: Any, start_node: StartNode, volume: Volume, tmp_path: Path
) -> None:
    node = start_node(env=volume.settings)
    dcmtk.done(dcmtk.store(node.port, *(made(tmp_path / "sent") for _ in range(3))))
    assert node.stop() == 0
    volume.unmount()

    said = refused(node, volume, "serve", "--port", 0, "--no-http")
    assert f"the folder {volume.on} is not where its objects are" in said
    assert "see that its volume is mounted" in said
    for command in (
        ("check", "--repair"),
        ("check", "--rebuild"),
        ("check",),
        ("import", tmp_path / "sent"),
        ("backup", tmp_path / "backup"),
    ):
        assert "its volume is mounted" in refused(node, volume, *command)
    assert below(volume) == []

    volume.mount()
    done = run_lfscp("check", "--data-dir", node.data_dir, env=volume.settings)
    assert (done.returncode, done.stdout) == (0, "index and objects agree\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_whose_volume_goes_away_stores_nothing_until_it_is_back(
    dcmtk: Any, start_node: StartNode, volume: Volume, tmp_path: Path, workers: int
) -> None:
    flags = ["--http-port", "0", "--workers", workers]
    node = start_node(flags=flags, env=volume.settings, errors_expected=True)
    url = page_of(node)
    dcmtk.done(dcmtk.store(node.port, made(tmp_path / "sent")))
    assert ask(f"{url}readyz")[0] == 200

    volume.unmount()
    node_id = (node.data_dir / "node-id").read_text()
    (volume.on / ".incoming" / node_id).mkdir(parents=True)  # as after an accident before
    until = time.monotonic() + 60
    while ask(f"{url}readyz")[0] != 503:  # it looks once a second
        assert time.monotonic() < until
        time.sleep(0.1)
    lost = made(tmp_path / "lost")
    assert dcmtk.store(node.port, lost).code != 0
    assert "is its volume mounted" in node.wait_for("C-STORE", status="0xA700")["reason"]
    assert [path for path in volume.on.rglob("*") if path.is_file()] == []

    volume.mount()
    while ask(f"{url}readyz")[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    dcmtk.done(dcmtk.store(node.port, lost))
    assert node.stop() == 0
    done = run_lfscp("check", "--data-dir", node.data_dir, env=volume.settings)
    assert (done.returncode, done.stdout) == (0, "index and objects agree\n")


def test_a_volume_that_is_mounted_again_takes_the_series_that_was_coming(
    dcmtk: Any, start_node: StartNode, volume: Volume, tmp_path: Path
) -> None:
    node = start_node(env=volume.settings, errors_expected=True)
    series = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    dcmtk.done(dcmtk.store(node.port, made(tmp_path / "sent", **series)))
    volume.unmount()
    volume.mount()  # at once, so that nobody has looked
    dcmtk.done(dcmtk.store(node.port, made(tmp_path / "sent", **series)))

    volume.unmount()
    with small_disk(tmp_path / "other", "10m") as other:  # empty, and in the volume's place
        node_id = (node.data_dir / "node-id").read_text()
        (other / ".incoming" / node_id).mkdir(parents=True)
        subprocess.run(["mount", "--bind", other, volume.on], check=True)
        try:
            assert dcmtk.store(node.port, made(tmp_path / "lost", **series)).code != 0
            assert [path for path in other.rglob("*") if path.is_file()] == []
        finally:
            volume.unmount()
    volume.mount()
    assert node.stop() == 0
    done = run_lfscp("check", "--data-dir", node.data_dir, env=volume.settings)
    assert (done.returncode, done.stdout) == (0, "index and objects agree\n")
