"""The page of a node, its archive empty or with objects."""

from __future__ import annotations

from tests.support.page_with_objects import client, files, filled, filled_data

__all__ = ["client", "files", "filled", "filled_data"]
