"""A real browser (Debian's chromium) for tests of the page.

Its headless shell is the same browser without windows and tabs, and takes half the processor time.
Screenshots go to the folder in $ARTIFACTS; without one none are made. Nothing may appear in the
browser's console: neither an error of a script nor a breach of the Content-Security-Policy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.ci import in_ci

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
# No picture (415), a form that is not complete (422), or of something that was changed meanwhile
# (409): the browser and htmx say so by themselves.
HARMLESS = re.compile(r"status of 4(09|15|22)|Status Error Code 4(09|22)")


@pytest.fixture(scope="module")  # its event loop runs on, and asyncio.run would refuse beside it
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        reason = f"no chromium is installed (apt-get install {PROGRAMS[0]})"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    # What Playwright runs is a program of its own, which may lack a library of the system.
    driver = subprocess.run(
        [sys.executable, "-m", "playwright", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    if driver.returncode != 0:
        reason = f"Playwright does not run (apt-get install libatomic1): {driver.stderr.strip()}"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, local: Any) -> Iterator[Page]:
    # After the node, so that it is closed before the node goes.
    context = browser.new_context(viewport={"width": 1280, "height": 760}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    context.close()
    assert [text for text in heard if not HARMLESS.search(text)] == []


@pytest.fixture
def shoot(page: Page) -> Callable[[str], object]:
    artifacts = os.environ.get("ARTIFACTS")
    if not artifacts:
        return lambda name: None
    folder = Path(artifacts) / "screenshots"
    return lambda name: page.screenshot(path=folder / f"{name}.png")  # which makes the folder
