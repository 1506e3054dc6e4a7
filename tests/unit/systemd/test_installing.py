"""The steps by which the node becomes a service of systemd: files, what stays, what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfscp.systemd import installing
from lfscp.systemd.errors import ServiceError
from lfscp.systemd.installing import installation, removal
from lfscp.systemd.steps import RemoveFile, RunProgram, Step, WriteFile

PROGRAM = Path(sys.executable).with_name("lfscp")


def written(steps: list[Step], name: str) -> WriteFile:
    (found,) = [each for each in steps if isinstance(each, WriteFile) and each.path.name == name]
    return found


def commands(steps: list[Step]) -> list[str]:
    return [" ".join(each.command) for each in steps if isinstance(each, RunProgram)]


def write_all(steps: list[Step]) -> None:
    for each in steps:
        if isinstance(each, WriteFile):
            WriteFile(each.path, each.text, each.mode, keeps_old=each.keeps_old).perform()


def test_the_files_are_written_as_the_service_needs_them(tmp_path: Path) -> None:
    steps = installation(socket=False, start=True, root=tmp_path)
    write_all(steps)
    unit = (tmp_path / "etc/systemd/system/lfscp.service").read_text()
    assert f"ExecStart={PROGRAM} serve --config /etc/lfscp/lfscp.toml\n" in unit
    assert "/opt/lfscp" not in unit
    configured = tmp_path / "etc/lfscp/lfscp.toml"
    assert configured.stat().st_mode & 0o777 == 0o640  # it may hold passwords
    assert written(steps, "lfscp.toml").group == "lfscp"
    assert (tmp_path / "etc/systemd/system/lfscp.socket").stat().st_mode & 0o777 == 0o644
    assert "u lfscp" in (tmp_path / "etc/sysusers.d/lfscp.conf").read_text()
    assert configured.parent.stat().st_mode & 0o777 == 0o755
    order = [type(each).__name__ for each in steps[:3]]
    assert order == ["WriteFile", "RunProgram", "WriteFile"]  # its group exists before the file
    assert commands(steps)[1:] == [
        "systemctl daemon-reload",
        "systemctl enable --now lfscp.service",
    ]


def test_what_an_administrator_changed_stays(tmp_path: Path) -> None:
    write_all(installation(socket=False, start=True, root=tmp_path))
    changed = {}
    for name in ("etc/lfscp/lfscp.toml", "etc/systemd/system/lfscp.socket"):
        changed[name] = (tmp_path / name).read_text() + "# ours\n"
        (tmp_path / name).write_text(changed[name])
    (tmp_path / "etc/systemd/system/lfscp.service").write_text("of the last version\n")
    steps = installation(socket=False, start=True, root=tmp_path)
    said = [each.said() for each in steps]
    assert f"keep {tmp_path}/etc/lfscp/lfscp.toml" in said
    write_all(steps)
    for name, text in changed.items():
        assert (tmp_path / name).read_text() == text
    assert "ExecStart" in (tmp_path / "etc/systemd/system/lfscp.service").read_text()
    old = tmp_path / "etc/systemd/system/lfscp.service.old"
    assert old.read_text() == "of the last version\n"


def test_to_say_the_steps_writes_nothing(tmp_path: Path) -> None:
    for step in installation(socket=True, start=True, root=tmp_path):
        assert "\n" not in step.said()
    assert list(tmp_path.iterdir()) == []


def test_from_service_to_socket_the_service_is_stopped_first() -> None:
    steps = installation(socket=True, start=True, switches=True)
    assert commands(steps)[-2:] == [
        "systemctl disable --now lfscp.socket lfscp.service",
        "systemctl enable --now lfscp.socket",
    ]


def test_a_removal_leaves_configuration_and_data(tmp_path: Path) -> None:
    write_all(installation(socket=False, start=True, root=tmp_path))
    for step in removal(root=tmp_path):
        if isinstance(step, RemoveFile):
            step.perform()
    left = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    assert left == {"etc/lfscp/lfscp.toml"}
    assert commands(removal(root=tmp_path)) == []  # there is nothing to stop


@pytest.mark.parametrize(
    "place",
    ["/root/venv/bin/lfscp", "/home/anna/lfscp/bin/lfscp", "/tmp/x/bin/lfscp"],  # noqa: S108
)
def test_a_place_that_the_service_cannot_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(installing, "_places", lambda _program: iter([Path(place)]))
    with pytest.raises(ServiceError) as caught:
        installing.require_possible(is_for_real=False)
    assert f"the service could not read {place}" in str(caught.value)
    assert "/opt/lfscp" in str(caught.value)


def test_a_folder_that_nobody_else_may_enter_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o750)
    monkeypatch.setattr(installing, "_places", lambda _program: iter([closed / "bin/lfscp"]))
    monkeypatch.setattr(installing, "_HIDDEN", ())
    with pytest.raises(ServiceError, match=r"the user lfscp could not enter .*; chmod o\+x /"):
        installing.require_possible(is_for_real=False)
    closed_ones = list(installing._closed_folders(iter([closed / "bin/lfscp"])))
    assert closed_ones[-1] == closed


def test_a_path_with_odd_characters_is_written_as_systemd_reads_it() -> None:
    unit = installing.unit(Path("/opt/my %h $HOME/bin/lfscp"))
    assert 'ExecStart="/opt/my %%h $HOME/bin/lfscp" serve' in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    ("folder", "is_taken"),
    [
        *[
            (name, True)
            for name in ("a b", "100%n", "$HOME", "a;b", "#a", "@a", "m\u00fcller", "a ")
        ],
        *[(name, False) for name in ('a"b', "a'b", "a\\b", "a\nb", "a\tb", "\x1b[31m", "\\x20")],
    ],
    ids=repr,
)
def test_systemd_takes_the_path_of_a_program_or_the_installation_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, is_taken: bool
) -> None:
    program = tmp_path / folder / "lfscp"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(installing, "program", lambda: program)
    monkeypatch.setattr(installing, "_places", lambda _program: iter([]))
    if not is_taken:
        with pytest.raises(ServiceError, match="systemd runs no program with a quote"):
            installing.require_possible(is_for_real=False)
        return
    installing.require_possible(is_for_real=False)
    unit = tmp_path / "lfscp.service"
    line = next(each for each in installing.unit(program).splitlines() if "ExecStart=" in each)
    unit.write_text(f"[Service]\n{line}\n", encoding="utf-8")
    asked = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_fails_is_an_error_with_its_words() -> None:
    with pytest.raises(ServiceError, match=r"ls .* failed: .*No such file.*; see the log"):
        RunProgram(["ls", "/nowhere/at/all"], "see the log").perform()
    with pytest.raises(ServiceError, match="no-such-program is not installed"):
        RunProgram(["no-such-program"]).perform()


def test_a_file_of_root_is_owned_by_the_group(tmp_path: Path) -> None:
    import grp

    group = grp.getgrgid(os.getgid()).gr_name
    WriteFile(tmp_path / "f", "text", 0o640, group).perform()
    assert (tmp_path / "f").stat().st_gid == os.getgid()
