"""Orthanc as a peer: it stores and commits; told by its API, it sends and asks."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import dcmtk
from tests.support.dicom_peer import until

AE_TITLE = "ORTHANC"
PROGRAM = Path("/usr/sbin/Orthanc")  # Debian's package orthanc
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # orthanc-dicomweb
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
def orthanc(folder: Path, **modalities: int) -> Iterator[int]:
    """A running Orthanc that knows AE titles with their ports on this machine. Gives its port."""
    with _running(folder, modalities, HttpServerEnabled=False, DicomAlwaysAllowStore=True) as port:
        yield port


@contextmanager
def orthanc_scu(folder: Path, **modalities: int) -> Iterator[Orthanc]:
    """The same with its API, by which it can be told what to do."""
    http_port = dcmtk.free_port()
    with _running(
        folder,
        modalities,
        HttpPort=http_port,
        RemoteAccessAllowed=False,
        AuthenticationEnabled=False,
    ) as port:
        yield Orthanc(port, http_port)


@contextmanager
def orthanc_dicomweb(folder: Path, user: str, password: str) -> Iterator[str]:
    """A running Orthanc with its DICOMweb plugin, for one user. Gives the URL of its DICOMweb."""
    http_port = dcmtk.free_port()
    with _running(
        folder,
        {},
        HttpPort=http_port,
        RemoteAccessAllowed=False,
        AuthenticationEnabled=True,
        RegisteredUsers={user: password},
        Plugins=[str(DICOMWEB)],
        DicomWeb={"Enable": True, "Root": "/dicom-web/"},
        DicomAlwaysAllowEcho=True,
    ):
        yield f"http://127.0.0.1:{http_port}/dicom-web"


@contextmanager
def _running(folder: Path, modalities: dict[str, int], **own: Any) -> Iterator[int]:
    storage = folder / "storage"
    storage.mkdir(parents=True)
    configuration = folder / "orthanc.json"
    known = {
        title: {"AET": title, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
        for title, port in modalities.items()
    }

    def arguments(port: int) -> list[str]:
        settings = {
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "Plugins": [],
            "DicomAet": AE_TITLE,
            "DicomPort": port,
            "DicomModalities": known,
            "SaveJobs": False,
            **own,
        }
        configuration.write_text(json.dumps(settings))
        return [str(PROGRAM), str(configuration)]

    def answers(port: int) -> bool:
        return dcmtk.run("echoscu", "-q", "-aec", AE_TITLE, "127.0.0.1", port).code == 0

    with dcmtk.listening(arguments, answers) as port:
        yield port
