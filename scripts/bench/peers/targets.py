"""The servers under test: what each can do, its settings and its command line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .tls import Certificates

if TYPE_CHECKING:
    from .postgresql import PostgreSQL

AET = "PEERBENCH"
DESTINATION_AET = "DST"
POSTGRESQL_USER = "peerbench"
DEFAULT_LFSCP = (
    "{lfscp} serve --host 127.0.0.1 --port {port} --aet {aet} --data-dir {data} "
    "--peer DST=127.0.0.1:{dst_port} --no-http"
)

WEB_LFSCP = (
    "{lfscp} serve --host 127.0.0.1 --port {port} --aet {aet} --data-dir {data} "
    "--http-port {http_port}"
)

# DCMTK must not be shadowed by a virtual environment's pynetdicom scripts of the same names.
DCMTK = "/usr/bin"
ORTHANC = "/usr/sbin/Orthanc"
ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC_POSTGRESQL = Path("/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so")
STATIC_SERVER = Path(__file__).with_name("static_server.py")


def lfscp_program() -> str:
    """The lfscp beside the Python that runs this, else the one on PATH; '' when there is none."""
    beside = Path(sys.executable).with_name("lfscp")
    return str(beside) if beside.exists() else shutil.which("lfscp") or ""


class Capability(Enum):
    QUERY = "query"
    MOVE = "move"
    GET = "get"
    DICOMWEB = "dicomweb"
    THUMBNAILS = "thumbnails"
    FRAMES = "frames of 512 KB"  # an uvicorn that sends a file has them too


ARCHIVE = frozenset({Capability.QUERY, Capability.MOVE, Capability.GET})
DICOMWEB = ARCHIVE | {Capability.DICOMWEB, Capability.FRAMES}


class ClientMode(Enum):
    """Whether the DCMTK client, and DCMTK-based servers, switch Nagle's algorithm off."""

    NODELAY = "nodelay"
    NAGLE = "nagle"

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
        if self is ClientMode.NODELAY:
            env["TCP_NODELAY"] = "1"
        return env


@dataclass(frozen=True)
class Launch:
    """What a target needs to know to build its command line."""

    port: int
    data: Path
    dst_port: int
    http_port: int


@dataclass(frozen=True)
class Target:
    name: str
    note: str
    command: Callable[[Launch], list[str]]
    capabilities: frozenset[Capability] = frozenset()
    max_associations: int | None = None
    max_studies: int | None = None
    # Share of the work given to a slow server, so that a run ends in reasonable time.
    work_share: float = 1.0
    program: str = ""  # an absolute path that must exist
    package: str = ""  # a Python package that must be there, beside pynetdicom
    has_dicom: bool = True
    has_http: bool = False
    caches: tuple[str, ...] = ()  # folders of what it made before, in its data folder
    tls_command: Callable[[Launch, Certificates], list[str]] | None = None  # with TLS at the port
    tls: ssl.SSLContext | None = None  # how to ask it

    def with_tls(self, files: Certificates) -> Self:
        """The same with TLS at its port; only for one that has a `tls_command`."""
        command = self.tls_command
        if command is None:
            raise ValueError(f"{self.name} has no command with TLS")
        return replace(self, command=lambda launch: command(launch, files), tls=files.context())

    @property
    def absence(self) -> str:
        """What keeps this target from being run on this machine; empty when nothing does."""
        if self.program and not os.access(self.program, os.R_OK):
            return f"{self.program} is not installed"
        if self.package and find_spec(self.package) is None:
            return f"the Python package {self.package} is not installed"
        return ""


def _storescp(launch: Launch, *options: str) -> list[str]:
    command = [f"{DCMTK}/storescp", "-aet", AET, "--max-pdu", "131072"]
    return [*command, "-od", str(launch.data), *options, str(launch.port)]


def _storescp_tls(launch: Launch, files: Certificates) -> list[str]:
    own = ("+tls", str(files.key), str(files.certificate), "+cf", str(files.authority))
    return _storescp(launch, "--fork", *own)


def _dcmqrscp(launch: Launch) -> list[str]:
    store = launch.data / "store"
    store.mkdir(exist_ok=True)
    config = launch.data / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {launch.port}\n"
        "MaxPDUSize = 131072\n"
        "MaxAssociations = 256\n"
        "HostTable BEGIN\n"
        f"dst = ({DESTINATION_AET}, localhost, {launch.dst_port})\n"
        "HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        "AETable BEGIN\n"
        f"{AET} {store} RW (500, 1024mb) ANY\n"
        "AETable END\n"
    )
    return [f"{DCMTK}/dcmqrscp", "-q", "-c", str(config)]


def _orthanc(launch: Launch, **others: object) -> list[str]:
    config = launch.data / "orthanc.json"
    settings = {
        "Name": "peerbench",
        "StorageDirectory": str(launch.data / "db"),
        "IndexDirectory": str(launch.data / "db"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "AuthenticationEnabled": False,
        "DicomAet": AET,
        "DicomPort": launch.port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "MaximumPduLength": 131072,
        "DicomThreadsCount": 16,
        "ConcurrentJobs": 4,
        "SaveJobs": False,
        "DicomModalities": {"dst": [DESTINATION_AET, "127.0.0.1", launch.dst_port]},
        **others,
    }
    config.write_text(json.dumps(settings, indent=1))
    return [ORTHANC, str(config)]


def _orthanc_tls(launch: Launch, files: Certificates) -> list[str]:
    return _orthanc(
        launch,
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(files.certificate),
        DicomTlsPrivateKey=str(files.key),
        DicomTlsTrustedCertificates=str(files.authority),
    )


def _orthanc_dicomweb(launch: Launch) -> list[str]:
    return _orthanc(
        launch,
        Plugins=[str(ORTHANC_DICOMWEB)],
        HttpServerEnabled=True,
        HttpPort=launch.http_port,
        HttpThreadsCount=50,
        KeepAlive=True,
        TcpNoDelay=True,
        RemoteAccessAllowed=False,
        HttpCompressionEnabled=True,
        DicomWeb={"Enable": True, "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    )


def _qrscp(launch: Launch) -> list[str]:
    config = launch.data / "qrscp.ini"
    config.write_text(
        "[DEFAULT]\n"
        f"ae_title: {AET}\nport: {launch.port}\nmax_pdu: 131072\n"
        "acse_timeout: 30\ndimse_timeout: 30\nnetwork_timeout: 30\n"
        "bind_address: 127.0.0.1\n"
        f"instance_location: {launch.data / 'instances'}\n"
        f"database_location: {launch.data / 'instances.sqlite'}\n"
        "log_identifier: False\n"
        f"[{DESTINATION_AET}]\naddress: 127.0.0.1\nport: {launch.dst_port}\n"
    )
    return [sys.executable, "-m", "pynetdicom", "qrscp", "-q", "-c", str(config)]


def _pynetdicom_storescp(launch: Launch) -> list[str]:
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(launch.port), "-q"]
    return [*command, "-aet", AET, "-ba", "127.0.0.1", "-pdu", "131072", "-od", str(launch.data)]


PEERS: tuple[Target, ...] = (
    Target(
        "storescp",
        "DCMTK storescp, one process: no index, no fsync, one association at a time",
        _storescp,
        max_associations=1,
        program=f"{DCMTK}/storescp",
    ),
    Target(
        "storescp-fork",
        "DCMTK storescp --fork: a process per association; no index, no fsync",
        lambda launch: _storescp(launch, "--fork"),
        program=f"{DCMTK}/storescp",
        tls_command=_storescp_tls,
    ),
    Target(
        "dcmqrscp",
        "DCMTK dcmqrscp: a process per association; flat index of at most 500 studies, no fsync",
        _dcmqrscp,
        ARCHIVE,
        max_studies=500,
        program=f"{DCMTK}/dcmqrscp",
    ),
    Target(
        "orthanc",
        "Orthanc: 16 DICOM threads; SQLite index, no plugins, HTTP server off",
        _orthanc,
        ARCHIVE,
        program=ORTHANC,
        tls_command=_orthanc_tls,
    ),
    Target(
        "qrscp",
        "pynetdicom qrscp: SQLite index through SQLAlchemy; at most 10 associations",
        _qrscp,
        ARCHIVE,
        max_associations=10,
        work_share=0.25,
        package="pynetdicom",
    ),
    Target(
        "py-storescp",
        "pynetdicom storescp: no index, no fsync; at most 10 associations",
        _pynetdicom_storescp,
        max_associations=10,
        work_share=0.25,
        package="pynetdicom",
    ),
)


WEB_PEERS: tuple[Target, ...] = (
    Target(
        "orthanc",
        "Orthanc with its DICOMweb plugin: 50 HTTP threads; SQLite index; no login",
        _orthanc_dicomweb,
        DICOMWEB,
        program=str(ORTHANC_DICOMWEB),
        has_http=True,
    ),
    Target(
        "uvicorn",
        "uvicorn with Starlette's StaticFiles and a file of 512 KB: what frames are measured by",
        lambda launch: [
            *(sys.executable, str(STATIC_SERVER)),
            *(str(launch.data), str(launch.http_port)),
        ],
        frozenset({Capability.FRAMES}),
        package="uvicorn",
        has_dicom=False,
        has_http=True,
    ),
)


def postgresql_targets(database: PostgreSQL) -> tuple[Target, ...]:
    """Orthanc and lfscp with their indexes in databases of their own; objects in their folders."""

    def orthanc(launch: Launch) -> list[str]:
        settings = {
            "EnableIndex": True,
            "EnableStorage": False,
            "Host": "127.0.0.1",
            "Port": database.port,
            "Database": database.database_of(launch.data),
            "Username": POSTGRESQL_USER,
            "Password": "",
        }
        return _orthanc(launch, Plugins=[str(ORTHANC_POSTGRESQL)], PostgreSQL=settings)

    return (
        Target(
            "orthanc",
            "Orthanc with its index in PostgreSQL: 16 DICOM threads; HTTP server off",
            orthanc,
            ARCHIVE,
            program=str(ORTHANC_POSTGRESQL),
        ),
        postgresql_lfscp("lfscp", DEFAULT_LFSCP, database),
    )


def postgresql_lfscp(name: str, template: str, database: PostgreSQL) -> Target:
    """An lfscp started by a command template, with its index in a database of its own."""
    target = command_target(name, template)

    def command(launch: Launch) -> list[str]:
        index = f"LFSCP_INDEX__URL={database.url_of(launch.data)}"
        return ["env", index, *target.command(launch)]

    return replace(target, command=command, tls_command=None)


def command_target(name: str, template: str) -> Target:
    """A target started by a command template; assumed to be a full archive.

    With {http_port} in the template it is assumed to have DICOMweb at /dicom-web, too; and with TLS
    to take lfscp's configuration.
    """

    def command(launch: Launch) -> list[str]:
        filled = template.format(
            lfscp=lfscp_program(),
            port=launch.port,
            aet=AET,
            data=launch.data,
            dst_port=launch.dst_port,
            http_port=launch.http_port,
        )
        return shlex.split(filled)

    def tls_command(launch: Launch, files: Certificates) -> list[str]:
        config = launch.data / "tls.toml"
        config.write_text(
            "[server]\nplain = false\n"
            f"[tls]\nenabled = true\nport = {launch.port}\n"
            f'certificate_file = "{files.certificate}"\nkey_file = "{files.key}"\n'
            f'ca_file = "{files.authority}"\nclient_auth = "required"\n'
        )
        return [*command(replace(launch, port=launch.http_port)), "--config", str(config)]

    has_http = "{http_port}" in template
    can = DICOMWEB | {Capability.THUMBNAILS} if has_http else ARCHIVE
    return Target(
        name,
        f"`{template}`",
        command,
        can,
        has_http=has_http,
        caches=("cache",),
        tls_command=None if has_http else tls_command,
    )
