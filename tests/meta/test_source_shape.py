"""The shape of the source: layers, a head on each module, a size that can be read."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "lfscp").rglob("*.py"))
MAX_LINES = 600  # most are below 300
USUAL_LINES = 300


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_begins_with_what_it_does(module):
    head = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert head, "a module begins with a docstring that says what it does"
    first = head.splitlines()[0]
    assert first.endswith((".", ":")) or ":" in first or len(head.splitlines()) > 1


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_most_modules_are_short():
    lengths = [len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES]
    long = [length for length in lengths if length > USUAL_LINES]
    assert len(long) * 5 <= len(lengths), "more than one module in five has over 300 lines"


def test_no_module_has_a_name_that_says_nothing():
    assert not {"utils", "helpers", "manager", "common", "misc"} & {each.stem for each in MODULES}


NAMES_A_CLASS = re.compile(
    r"type\((?:error|problem|exc|exception|failure)\)\.__(?:qual)?name__"
    r"|repr\((?:error|problem|exc|exception|failure)\)"
    r"|\{(?:error|problem|exc|exception|failure)!r\}"
)
# Lines of the log about a defect of ours, or of a library.
MAY_NAME_A_CLASS = {
    "lfscp/observe/stdlib_bridge.py": 1,
    "lfscp/observe/logging.py": 1,
    "lfscp/plugins/in_use.py": 1,
    "lfscp/services/service_log.py": 1,
    "lfscp/services/sending/sub_operations.py": 1,
}


def test_no_answer_names_the_class_of_an_exception():
    found = {
        str(module.relative_to(ROOT)): len(NAMES_A_CLASS.findall(module.read_text("utf-8")))
        for module in MODULES
    }
    assert {name: number for name, number in found.items() if number} == MAY_NAME_A_CLASS


def test_imports_run_one_way():
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
