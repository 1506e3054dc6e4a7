"""The documents: README stays short, links lead somewhere, and what is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from lfscp.cli.app import app
from lfscp.config.describe import leaves, sections

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "lfscp/README.md", "tests/README.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted((ROOT / "config").glob("*.md")),
    *sorted((ROOT / "scripts").rglob("README.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Of a section of the settings: `server.port`, `peers.TITLE.may`; not `server.start()`, `pool.py`.
SECTIONS = "|".join(name.replace(".*", r"\.TITLE") for name in sections())
SETTING = re.compile(rf"`((?:{SECTIONS})\.(?!py`|log`)[a-z_0-9]+)`")

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def prose(document: Path) -> str:
    """Its text without blocks of code."""
    return FENCED.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """What a link may name behind "#", made from the headings as GitHub makes it."""
    headings = HEADING.findall(prose(document))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


@each_document
def test_every_link_leads_somewhere(document):
    for link in LINK.findall(prose(document)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_every_setting_that_is_named_exists(document):
    names = {leaf.name.replace("peers.*", "peers.TITLE") for leaf in leaves()}
    assert set(SETTING.findall(prose(document))) <= names


def test_readme_lists_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in typer.main.get_command(app).commands:
        assert f"`lfscp {name}" in readme


def test_every_file_for_administrators_is_in_the_list_of_their_folder():
    listed = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    for each in sorted((ROOT / "config").iterdir()):
        if each.name != "README.md" and each.suffix != ".png":
            assert f"]({each.name})" in listed, each.name
