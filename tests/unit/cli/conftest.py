"""Runs a command of the CLI in the tests' own process."""

from __future__ import annotations

from tests.support.command_line import nobody_acts_afterwards, run

__all__ = ["nobody_acts_afterwards", "run"]
