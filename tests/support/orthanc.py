"""Orthanc as a peer: it stores, and commits to what it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import dcmtk

AE_TITLE = "ORTHANC"
PROGRAM = Path("/usr/sbin/Orthanc")  # Debian's package orthanc


@contextmanager
def orthanc(folder: Path, **modalities: int) -> Iterator[int]:
    """A running Orthanc that knows AE titles with their ports on this machine. Gives its port."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    configuration = folder / "orthanc.json"
    known = {
        title: {"AET": title, "Host": "127.0.0.1", "Port": port}
        for title, port in modalities.items()
    }

    def arguments(port: int) -> list[str]:
        settings = {
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "Plugins": [],
            "HttpServerEnabled": False,
            "DicomAet": AE_TITLE,
            "DicomPort": port,
            "DicomAlwaysAllowStore": True,
            "DicomModalities": known,
            "SaveJobs": False,
        }
        configuration.write_text(json.dumps(settings))
        return [str(PROGRAM), str(configuration)]

    def answers(port: int) -> bool:
        return dcmtk.run("echoscu", "-q", "-aec", AE_TITLE, "127.0.0.1", port).code == 0

    with dcmtk.listening(arguments, answers) as port:
        yield port
