"""The supported Pythons stand in pyproject.toml; what repeats them says the same.

And scripts/environment takes no other Python, nor a free-threaded build of one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OLDEST, TOO_NEW = map(
    int, re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
)  # as in ">=3.11,<3.15"
SUPPORTED = [f"3.{minor}" for minor in range(OLDEST, TOO_NEW)]
PROGRAMS = (
    *("bash", "cat", "cp", "dirname", "env", "mkdir", "touch"),
    *("awk", "grep", "id", "sed", "sort"),
)
RANGE = f"{SUPPORTED[0]} to {SUPPORTED[-1]}"
# A Python that looks like another. Environments that it makes hold nothing but itself; pip does
# nothing.
LOOKS_LIKE = """#!{bash}
case $2 in
    venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && exit ;;
    pip) exit ;;
esac
exec "{python}" -c "import sys, sysconfig
sys.version_info, sys.executable = ({version}, 0, 'final', 0), '$0'
usual = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: {free} if name == 'Py_GIL_DISABLED' else usual(name)
exec(sys.argv[1])" "$2"
"""


def test_the_classifiers_name_each() -> None:
    named = [each.rpartition(" ")[2] for each in PROJECT["project"]["classifiers"]]
    assert [each for each in named if each.startswith("3.")] == SUPPORTED


def test_types_are_checked_as_the_oldest_sees_them() -> None:
    assert PROJECT["tool"]["mypy"]["python_version"] == SUPPORTED[0]
    assert "target-version" not in PROJECT["tool"]["ruff"], "ruff reads requires-python itself"


def test_continuous_integration_has_each() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["unit_tests"]["strategy"]["matrix"]["python"] == SUPPORTED


def test_the_image_of_the_nodes_has_one_of_them() -> None:
    found = re.findall(r"FROM python:([\d.]+)", (ROOT / "config/Dockerfile").read_text())
    assert found
    assert set(found) <= set(SUPPORTED)


@pytest.mark.parametrize("document", ["README.md", ".github/CONTRIBUTING.md"])
def test_the_documents_name_them(document: str) -> None:
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    assert f"Linux, Python {RANGE}" in text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree without an environment, and `programs`, which are all that its scripts find."""
    source = tmp_path / "source"
    (source / "scripts").mkdir(parents=True)
    (source / "programs").mkdir()
    for name in ("scripts/serve", "scripts/test", "scripts/environment", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None
        (source / "programs" / name).symlink_to(found)
    return source


def add_python(source: Path, name: str, version: str, *, free: bool = False) -> None:
    program = source / "programs" / name
    bash = shutil.which("bash")
    numbers = version.replace(".", ", ")
    program.write_text(
        LOOKS_LIKE.format(bash=bash, python=sys.executable, version=numbers, free=int(free))
    )
    program.chmod(0o755)


def run(source: Path, script: str) -> subprocess.CompletedProcess[str]:
    # /usr/bin/python3 is looked at wherever PATH points: here it is what `python3` is.
    text = (source / "scripts/environment").read_text()
    environment = text.replace("/usr/bin/python3", str(source / "programs/python3"))
    (source / "scripts/environment").write_text(environment)
    return subprocess.run(
        [source / "scripts" / script],
        env={"PATH": str(source / "programs"), "SKIP_MISSING": "1", "HOME": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", ["serve", "test"])
@pytest.mark.parametrize(
    ("version", "free", "found"),
    [
        (f"3.{OLDEST - 1}", False, f"python3 is 3.{OLDEST - 1}"),
        (f"3.{TOO_NEW}", False, f"python3 is 3.{TOO_NEW}"),
        (SUPPORTED[-1], True, f"python3 is a free-threaded build of {SUPPORTED[-1]}"),
    ],
    ids=["too old", "too new", "free-threaded"],
)
def test_another_python_is_refused_in_one_line(
    source: Path, script: str, version: str, free: bool, found: str
) -> None:
    add_python(source, "python3", version, free=free)
    done = run(source, script)
    assert done.returncode == 1
    *before, said = done.stderr.splitlines()
    assert said == f"scripts/{script}: lfscp needs Python {RANGE}, not free-threaded; {found}"
    assert before == [] or script == "test", "scripts/test says first which tests it skips"
    assert not (source / ".venv").exists()


def test_a_machine_without_python_is_told_which_it_needs(source: Path) -> None:
    done = run(source, "serve")
    assert done.returncode == 1
    assert done.stderr == f"scripts/serve: lfscp needs Python {RANGE}, not free-threaded\n"


@pytest.mark.parametrize("version", [SUPPORTED[0], SUPPORTED[-1]])
def test_a_supported_python_is_taken_whatever_its_name(source: Path, version: str) -> None:
    add_python(source, "python3", f"3.{TOO_NEW}")
    add_python(source, f"python{version}", version)
    shown = subprocess.run(
        ["bash", "-c", f". scripts/environment; find_python {version.removeprefix('3.')}"],
        cwd=source,
        env={"PATH": str(source / "programs"), "HOME": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stdout == f"{source}/programs/python{version}\n"
    run(source, "serve")
    assert (source / ".venv/installed-codecs").exists(), "an environment was made with it"


def test_an_environment_of_another_python_is_made_anew(source: Path) -> None:
    add_python(source, "python3", SUPPORTED[-1])
    stamp = source / ".venv/installed-codecs"
    (source / ".venv/bin").mkdir(parents=True)
    add_python(source, "old", f"3.{OLDEST - 1}")
    (source / "programs/old").rename(source / ".venv/bin/python")
    stamp.touch()
    run(source, "serve")
    answer = subprocess.run(
        [source / ".venv/bin/python", "-c", "import sys; print(sys.version_info[1])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert answer.stdout == f"{TOO_NEW - 1}\n"
