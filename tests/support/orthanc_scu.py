"""Orthanc as a modality that stores objects and asks for commitment, told so by its REST API."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import dcmtk
from tests.support.dicom_peer import until
from tests.support.orthanc import AE_TITLE, PROGRAM

PATIENCE_S = 60.0


class Orthanc:
    """One that runs.

    Args:
        port: of DICOM.
        http_port: of its API.
    """

    def __init__(self, port: int, http_port: int) -> None:
        self.port = port
        self._url = f"http://127.0.0.1:{http_port}"

    def call(self, path: str, body: object = None) -> Any:
        """Ask its API; with a body by POST."""
        data = (
            None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        with urllib.request.urlopen(self._url + path, data, timeout=PATIENCE_S) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())

    def commit(self, modality: str, references: list[list[str]]) -> dict[str, Any]:
        """Ask for commitment, and wait for the report."""
        asked = self.call(
            f"/modalities/{modality}/storage-commitment", {"DicomInstances": references}
        )
        report: dict[str, Any] = {}

        def has_come() -> bool:
            report.update(self.call(asked["Path"]))
            return bool(report["Status"] != "Pending")

        assert until(has_come, PATIENCE_S), report
        return report


@contextmanager
def orthanc_scu(folder: Path, **modalities: int) -> Iterator[Orthanc]:
    """A running Orthanc that knows AE titles with their ports on this machine."""
    folder.mkdir(parents=True)
    configuration = folder / "orthanc.json"
    known = {
        title: {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
        for title, port in modalities.items()
    }
    http_port = dcmtk.free_port()

    def arguments(port: int) -> list[str]:
        settings = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "Plugins": [],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": AE_TITLE,
            "DicomPort": port,
            "DicomModalities": known,
            "SaveJobs": False,
        }
        configuration.write_text(json.dumps(settings))
        return [str(PROGRAM), str(configuration)]

    def answers(port: int) -> bool:
        return dcmtk.run("echoscu", "-q", "-aec", AE_TITLE, "127.0.0.1", port).code == 0

    with dcmtk.listening(arguments, answers) as port:
        yield Orthanc(port, http_port)
