"""What names a node among those that share an index or a folder of objects."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

NODE_FILE: Final = "node-id"


def node_id(data_dir: Path) -> str:
    """The node's name: made once, kept in its data folder.

    Raises:
        OSError: it can be neither read nor made.
    """
    file = data_dir / NODE_FILE
    if not file.exists():
        file.write_text(uuid.uuid4().hex, encoding="ascii")
    return file.read_text(encoding="ascii")
