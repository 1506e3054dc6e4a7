"""axe-core, which looks for what keeps people with disabilities from using a page.

npm fetches it once, by its digest; it is for the tests alone, and no part of lfscp.
"""

from __future__ import annotations

import fcntl
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page

from lfscp.errors import OperationError
from lfscp.web.ohif.fetching import fetch, require_package
from lfscp.web.ohif.package import Package
from tests.support.ci import in_ci

AXE: Final = Package(
    name="axe-core",
    version="4.14.1",
    integrity="sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
_SCRIPT: Final = "package/axe.min.js"
_RUN: Final = """async (rules) => {
    const chosen = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
    const found = await axe.run(document, {resultTypes: ["violations"], ...chosen});
    return found.violations.flatMap(({id, help, nodes}) => nodes.map(node =>
        `${id}: ${help}: ${node.html.slice(0, 160)} ${(node.any[0] || {}).message || ""}`));
}"""
OF_COLOURS: Final = ("color-contrast", "link-in-text-block")  # the rules that a theme can break


def axe_script(folder: Path) -> str:
    """The script of axe-core; a second test run finds it in the folder.

    If npm is not there, or cannot fetch it, a run in CI fails; any other skips.
    """
    file = folder / f"axe-core-{AXE.version}.tgz"
    with (folder / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            try:
                fetch(AXE, folder)
            except OperationError as error:
                (pytest.fail if in_ci() else pytest.skip)(str(error))
        require_package(file, AXE)
    with tarfile.open(file) as package:
        script = package.extractfile(_SCRIPT)
        assert script is not None
        return script.read().decode()


def findings(page: Page, script: str, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds on the page as it is now, by these of its rules or by all."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(script)
    found: list[Any] = page.evaluate(_RUN, rules)
    return [str(each) for each in found]
