"""A power cut at any moment loses nothing acknowledged, and leaves nothing half or left over.

The longer trial is `scripts/soak powercuts`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.ci import in_ci
from tests.support.power.file_systems import FILE_SYSTEMS, FileSystem, MountError, may_mount
from tests.support.power.trial import Outcome, try_cuts

CUTS = 6


def tried(kind: FileSystem, folder: Path, options: Sequence[str], cuts: int) -> Outcome:
    """A trial; skipped where nobody may mount file systems."""
    try:
        return try_cuts(kind, folder, options, cuts, random.Random())
    except MountError as error:
        reason = f"power cuts need {kind.name}, FUSE and loop devices: {error}"
        (pytest.fail if in_ci() and may_mount() else pytest.skip)(reason)


@pytest.mark.parametrize("kind", FILE_SYSTEMS.values(), ids=FILE_SYSTEMS)
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, kind: FileSystem) -> None:
    outcome = tried(kind, tmp_path / "trial", ["--seconds", "1"], CUTS)
    assert outcome.faults == []
    assert outcome.cuts == CUTS
    assert outcome.acknowledged > 0


@pytest.mark.parametrize("kind", FILE_SYSTEMS.values(), ids=FILE_SYSTEMS)
def test_a_power_cut_shows_that_nothing_was_synced(tmp_path: Path, kind: FileSystem) -> None:
    outcome = tried(kind, tmp_path / "trial", ["--seconds", "0.5", "--durability", "os"], 1)
    assert outcome.acknowledged > 0
    assert any("LOST" in fault for fault in outcome.faults)
