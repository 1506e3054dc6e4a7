"""A node's application with objects of every kind of pixel data."""

from __future__ import annotations

from tests.support.wado_objects import node

__all__ = ["node"]
