"""The documentation of the Python API is made from docstrings, without a warning."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts/documentation").read_text(encoding="utf-8")


class _Ids(HTMLParser):
    """Collects what a page has an entry for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attributes if name == "id" and value}


def test_it_is_made_without_warnings_and_has_what_programs_use(tmp_path: Path) -> None:
    (command,) = re.findall(r"^\.venv/bin/python (.*) --output-directory", SCRIPT, re.MULTILINE)
    (modules,) = re.findall(r"^modules=\((.*)\)$", SCRIPT, re.MULTILINE)
    made = subprocess.run(
        [sys.executable, *shlex.split(command), "--output-directory", tmp_path, *modules.split()],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert (made.returncode, made.stderr) == (0, "")
    page = _Ids()
    for module in modules.split():
        path = tmp_path / f"{module.replace('.', '/')}.html"
        page.feed(path.read_text(encoding="utf-8"))
    methods = ("start", "serve_forever", "shutdown", "drain", "close")
    assert {f"LeaderFollowerServer.{each}" for each in methods} <= page.found
    assert {"ServedAssociations.bind", "LeaderFollowerPool.promote_new_leader"} <= page.found
