"""A later major version of a dependency comes in when it was tried, and not by itself."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
TABLES = [
    PROJECT["build-system"]["requires"],
    PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"].values(),
]
OTHERS = [each for each in map(Requirement, chain(*TABLES)) if each.name != "lfscp"]


@pytest.mark.parametrize("requirement", OTHERS, ids=str)
def test_a_dependency_has_a_lower_and_an_upper_bound(requirement: Requirement) -> None:
    operators = {each.operator for each in requirement.specifier}
    assert {">=", "<"} <= operators
