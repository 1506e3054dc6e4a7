"""Gives a node its name among those that share an index or a folder of objects."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

from lfscp.archive.durability import write_whole

NODE_FILE: Final = "node-id"


def node_id(data_dir: Path) -> str:
    """The node's name: made once, kept in its data folder.

    Raises:
        OSError: it can be neither read nor made.
    """
    file = data_dir / NODE_FILE
    known = file.read_text(encoding="ascii") if file.exists() else ""
    if not known:  # a power cut may have left it empty
        known = uuid.uuid4().hex
        write_whole(file, known)
    return known
