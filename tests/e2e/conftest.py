"""Fixtures of the end-to-end tests: real nodes, and DCMTK's clients against them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import dcmtk as tools
from tests.support.browser import browser, page, shoot
from tests.support.ci import in_ci
from tests.support.node_process import NodeProcess, StartNode, proper_end

__all__ = ["browser", "page", "shoot"]  # fixtures


@pytest.fixture(scope="session")
def dcmtk() -> Any:
    """DCMTK's tools (the module `dcmtk`); without them a run in CI fails."""
    missing = tools.missing()
    if missing:
        reason = f"DCMTK's {', '.join(missing)} not found, install the package dcmtk"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    return tools


@pytest.fixture
def start_node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartNode]:
    """Starts a node; `folder` keeps several apart. Each must come to a proper end."""
    for name in ("index_url", "postgresql_url"):  # its database outlives it
        if name in request.fixturenames:
            request.getfixturevalue(name)
    ends = []

    def start(folder: str = "node", *, errors_expected: bool = False, **options: Any) -> Any:
        node = NodeProcess(tmp_path / folder, **options)
        end = proper_end(node, errors_expected=errors_expected)
        ends.append(end)
        return end.__enter__().start()

    yield start
    problems = []
    for end in reversed(ends):
        try:
            end.__exit__(None, None, None)
        except AssertionError as problem:
            problems.append(problem)
    assert not problems, problems


@pytest.fixture
def node(start_node: StartNode) -> NodeProcess:
    """A node as it is without any configuration."""
    return start_node()
