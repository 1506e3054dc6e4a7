"""The shape of the source: layers, a head on each module, a size that can be read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "lfscp").rglob("*.py"))
MAX_LINES = 600  # most are below 300
USUAL_LINES = 300


@pytest.fixture(scope="module")
def sources():
    """The text of each module by its path."""
    return {str(each.relative_to(ROOT)): each.read_text(encoding="utf-8") for each in MODULES}


def begins_with_what_it_does(source):
    """Whether its docstring has a first line that can stand alone."""
    head = ast.get_docstring(ast.parse(source)) or ""
    first, *more = head.splitlines() or [""]
    return first.endswith(".") or ":" in first or len(more) > 0


def test_every_module_begins_with_what_it_does(sources):
    assert [name for name, text in sources.items() if not begins_with_what_it_does(text)] == []


def test_every_module_can_be_read_in_one_sitting(sources):
    lengths = {name: len(text.splitlines()) for name, text in sources.items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_most_modules_are_short(sources):
    lengths = [len(text.splitlines()) for text in sources.values()]
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


def test_no_answer_names_the_class_of_an_exception(sources):
    found = {name: len(NAMES_A_CLASS.findall(text)) for name, text in sources.items()}
    assert {name: number for name, number in found.items() if number} == MAY_NAME_A_CLASS
