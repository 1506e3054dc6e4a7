"""What keeps a node from starting."""

from __future__ import annotations


class NodeError(Exception):
    """The node cannot start; its text is one line for the administrator."""
