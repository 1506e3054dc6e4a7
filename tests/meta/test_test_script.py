"""scripts/test installs what the tests need, or says what is missing and ends.

What fails is run once more, and what passes only then is named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.orthanc import DICOMWEB

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sed", "timeout")
# Appended to scripts/environment, so that no environment is made.
GOES_ON = "prepare_environment() { echo the environment is prepared; exit 0; }\n"
PREPARED = "prepare_environment() { echo prepared $*; }\n"
# Fails when it is run first, or always, or never.
TESTS = """
import pathlib, pytest
ran = pathlib.Path("ran")

@pytest.mark.parametrize("name", ["once", "twice, or [more]"])
def test_flaky(name):
    before = ran.exists() and name in ran.read_text()
    with ran.open("a") as file:
        file.write(name)
    assert before

def test_broken():
    assert not pathlib.Path("broken").exists()

def test_sound():
    pass
"""


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
    path.unlink(missing_ok=True)  # it may be a link to the real one
    path.write_text("\n".join((f"#!{shutil.which('bash')}", *lines, "")))
    path.chmod(0o755)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree with the script."""
    source = tmp_path / "source"
    (source / "scripts").mkdir(parents=True)
    for name in ("scripts/test", "scripts/environment", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    return source


def run(
    programs: Path, source: Path, *arguments: str, end: str = GOES_ON, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script in a source tree whose environment is never made."""
    with (source / "scripts/environment").open("a") as file:
        file.write(end)
    left_out = ("CI", "SKIP_MISSING", "PYTEST_")
    others = {name: text for name, text in os.environ.items() if not name.startswith(left_out)}
    return subprocess.run(
        [source / "scripts/test", *arguments],
        env=others | {"PATH": str(programs)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_apt_s_words_are_shown_when_it_fails_and_nothing_is_run(
    programs: Path, source: Path
) -> None:
    program(programs / "id", "echo 0")
    program(programs / "apt-get", "echo E: no route to the mirror >&2", "exit 100")
    done = run(programs, source)
    assert done.returncode == 1
    assert "E: no route to the mirror" in done.stderr
    assert "chromium-headless-shell" in done.stderr.splitlines()[-1]
    assert "could not install" in done.stderr.splitlines()[-1]
    assert "prepared" not in done.stdout


def test_a_browser_with_windows_does_where_the_one_without_cannot_be_had(
    programs: Path, source: Path
) -> None:
    program(programs / "id", "echo 0")
    program(programs / "apt-get", 'case "$*" in *"headless-shell") exit 100 ;; esac')
    program(programs / "chromium", "exit 0")
    done = run(programs, source, SKIP_MISSING="1")
    assert done.returncode == 0
    assert "scripts/test: going on with chromium" in done.stderr
    assert "prepared" in done.stdout


@pytest.mark.parametrize("environment", [{}, {"CI": "1"}, {"CI": "1", "SKIP_MISSING": "1"}])
def test_who_cannot_install_is_told_what_is_missing(
    programs: Path, source: Path, environment: dict[str, str]
) -> None:
    done = run(programs, source, **environment)
    assert done.returncode == 1
    missing = done.stderr.splitlines()[0].removeprefix("scripts/test: not installed: ").split()
    assert {"chromium-headless-shell", "systemd", "openssl"} <= set(missing)
    assert f"apt-get install {' '.join(missing)}" in done.stderr
    assert "prepared" not in done.stdout


def test_who_asks_for_it_runs_without_the_tests_that_need_more(
    programs: Path, source: Path
) -> None:
    done = run(programs, source, SKIP_MISSING="1")
    assert done.returncode == 0
    assert "SKIPPED" in done.stderr
    assert "prepared" in done.stdout


def test_the_unit_tests_need_nothing(programs: Path, source: Path) -> None:
    done = run(programs, source, "unit")
    assert done.returncode == 0
    assert "prepared" in done.stdout
    assert "SKIPPED" not in done.stderr


def test_those_on_further_pythons_need_less(programs: Path, source: Path) -> None:
    done = run(programs, source, "pythons")
    assert done.returncode == 1
    missing = done.stderr.splitlines()[0].removeprefix("scripts/test: not installed: ").split()
    assert set(missing) <= {"openssl", "postgresql"}
    assert "openssl" in missing


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_given_whatever_is_missing(programs: Path, source: Path, option: str) -> None:
    done = run(programs, source, option)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: scripts/test [unit | pythons | systemd]")
    assert done.stderr == ""


@pytest.fixture
def tested(source: Path) -> Path:
    """A source tree with an environment and tests; its source passes every check."""
    made = source / ".venv/bin"
    made.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports"):
        program(made / name, "exit 0")
    program(made / "python", f'exec {sys.executable} "$@"')
    # In one process, and without what takes long to import.
    quick = "--numprocesses=0 -p no:hypothesispytest -p no:anyio"
    program(made / "pytest", f'exec {sys.executable} -m pytest "$@" {quick}')
    for folder in ("unit", "integration"):
        (source / "tests" / folder).mkdir(parents=True)
    (source / "tests/test_some.py").write_text(TESTS)
    (source / "tests/unit/test_unit.py").write_text("def test_one():\n    pass\n")
    (source / "tests/integration/test_two.py").write_text("def test_two():\n    pass\n")
    return source


def run_tests(
    programs: Path, tested: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    environment = {"SKIP_MISSING": "1", "HOME": str(tested)} | environment
    return run(programs, tested, *arguments, end=PREPARED, **environment)


FLAKY = [
    "== flaky: failed, and passed when run once more",
    "tests/test_some.py::test_flaky[once]",
    "tests/test_some.py::test_flaky[twice, or [more]]",
]


def test_what_passes_at_the_second_try_only_is_named_at_the_end(
    programs: Path, tested: Path
) -> None:
    done = run_tests(programs, tested)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-3:] == FLAKY
    again = run_tests(programs, tested)
    assert again.returncode == 0
    assert "flaky:" not in again.stdout, "it passed at once"


def test_what_fails_twice_is_a_failure_and_not_named_as_flaky(programs: Path, tested: Path) -> None:
    (tested / "broken").touch()
    done = run_tests(programs, tested)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-3:] == FLAKY
    assert "FAILED tests/test_some.py::test_broken" in done.stdout


def test_a_run_that_was_cut_short_is_a_failure(programs: Path, tested: Path) -> None:
    """Whatever the tests did that were run: others were not."""
    program(programs / "timeout", 'shift 3; "$@"; exit 124')
    done = run_tests(programs, tested)
    assert done.returncode == 124
    assert done.stdout.count("== timeout") == 1


def test_a_part_of_the_tests(programs: Path, tested: Path) -> None:
    done = run_tests(programs, tested, "unit", "-q")
    assert done.returncode == 0
    assert "1 passed" in done.stdout
    assert "== ruff check ." in done.stdout


def test_what_mypy_finds_is_shown_after_the_tests_and_fails_the_run(
    programs: Path, tested: Path
) -> None:
    program(tested / ".venv/bin/mypy", "echo some.py:1: error: of types", "exit 1")
    done = run_tests(programs, tested, "unit", "-q")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["== mypy --strict", "some.py:1: error: of types"]
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "runs"),
    [((), {}, 0), ((), {"CI": "1"}, 1), (("pythons",), {}, 1), (("unit",), {"CI": "1"}, 0)],
    ids=["all", "all in CI", "pythons", "unit in CI"],
)
def test_tests_run_on_further_pythons(
    programs: Path,
    tested: Path,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    runs: int,
) -> None:
    """One further Python is there, in pyenv's place; another version is a free-threaded build."""
    own = sys.version_info.minor
    further, free = [minor for minor in (11, 12, 13) if minor != own][:2]
    for minor, answer in ((further, "0"), (free, "1")):
        python = tested / f"pyenv/versions/3.{minor}.1/bin/python"
        python.parent.mkdir(parents=True)
        program(python, f'[ {answer} = 0 ] && echo "{python}"')
        (tested / f".venv/python3.{minor}").symlink_to(tested / ".venv")
    disks = ("fusermount3", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs")
    peers = ("chromium", "haproxy", "Orthanc", "npm", "dciodvfy")
    for name in ("openssl", "postgres", "systemd-analyze", *peers, *disks):
        program(programs / name, "exit 0")
    program(programs / "id", "echo 1000")
    environment = {"PYENV_ROOT": str(tested / "pyenv")} | environment
    (tested / "ran").write_text("once; twice, or [more]")
    done = run_tests(programs, tested, *arguments, **environment)
    has_dcmtk = shutil.which("storescu", path="/usr/bin:/usr/local/bin")
    if "CI" in environment and not (has_dcmtk and DICOMWEB.exists()):
        reason = "in CI the script goes no further without DCMTK and Orthanc's DICOMweb"
        pytest.skip(f"{reason}, which it finds by itself")
    assert done.returncode == 0, done.stdout + done.stderr
    named = [line for line in done.stdout.splitlines() if line.startswith("== Python 3.")]
    found = f"== Python 3.{further}: {tested}/pyenv/versions/3.{further}.1/bin/python"
    assert named == runs * [found]
    assert done.stdout.count(f"prepared test .venv/python3.{further}") == runs
    assert (f"no Python 3.{free} is here" in done.stderr) == bool(runs)
