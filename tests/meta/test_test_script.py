"""scripts/test installs what the tests need, or says what is missing and ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm")
GOES_ON = "prepare_environment() { echo the environment is prepared; exit 0; }\n"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only programs that the script finds: what it is made of itself; it is not root."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    program(programs / "id", "echo 1000")
    return programs


def program(path: Path, *lines: str) -> None:
    path.write_text("\n".join((f"#!{shutil.which('bash')}", *lines, "")))
    path.chmod(0o755)


def run(programs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a source tree whose environment is never made."""
    scripts = programs.parent / "source/scripts"
    scripts.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/test", scripts)
    (scripts / "environment").write_text(GOES_ON)
    others = {name: text for name, text in os.environ.items() if name not in ("CI", "SKIP_MISSING")}
    return subprocess.run(
        [scripts / "test"],
        env=others | {"PATH": str(programs)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_apt_s_words_are_shown_when_it_fails_and_nothing_is_run(programs: Path) -> None:
    program(programs / "id", "echo 0")
    program(programs / "apt-get", "echo E: no route to the mirror >&2", "exit 100")
    done = run(programs)
    assert done.returncode == 1
    assert "E: no route to the mirror" in done.stderr
    assert "chromium" in done.stderr.splitlines()[-1]
    assert "could not install" in done.stderr.splitlines()[-1]
    assert "prepared" not in done.stdout


@pytest.mark.parametrize("environment", [{}, {"CI": "1"}, {"CI": "1", "SKIP_MISSING": "1"}])
def test_who_cannot_install_is_told_what_is_missing(
    programs: Path, environment: dict[str, str]
) -> None:
    done = run(programs, **environment)
    assert done.returncode == 1
    missing = done.stderr.splitlines()[0].removeprefix("scripts/test: not installed: ").split()
    assert {"chromium", "systemd", "openssl"} <= set(missing)
    assert f"apt-get install {' '.join(missing)}" in done.stderr
    assert "prepared" not in done.stdout


def test_who_asks_for_it_runs_without_the_tests_that_need_more(programs: Path) -> None:
    done = run(programs, SKIP_MISSING="1")
    assert done.returncode == 0
    assert "SKIPPED" in done.stderr
    assert "prepared" in done.stdout
