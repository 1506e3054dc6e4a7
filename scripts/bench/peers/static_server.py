"""The yardstick of frames: one file of a frame's size from memory-backed disk, sent by uvicorn."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

FRAME_BYTES = 512 * 512 * 2
PATH = "/frame.bin"


def main(folder: Path, port: int) -> None:
    (folder / PATH[1:]).write_bytes(bytes(range(256)) * (FRAME_BYTES // 256))
    application = Starlette()
    application.mount("/", StaticFiles(directory=folder))
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
