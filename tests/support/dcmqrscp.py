"""DCMTK's archive, dcmqrscp, as a peer that lfscp asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import dcmtk

AE_TITLE = "QRSCP"
_CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16

HostTable BEGIN
{hosts}
HostTable END

VendorTable BEGIN
VendorTable END

AETable BEGIN
{title} {storage} RW (200, 1024mb) ANY
AETable END
"""


@contextmanager
def dcmqrscp(folder: Path, *options: object, **destinations: int) -> Iterator[int]:
    """A running dcmqrscp; `destinations` are AE titles and ports it may move to. Gives its port."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    hosts = "\n".join(
        f"host{number} = ({title}, localhost, {destination})"
        for number, (title, destination) in enumerate(destinations.items())
    )
    configuration = folder / "dcmqrscp.cfg"

    def arguments(port: int) -> list[str]:
        configuration.write_text(
            _CONFIGURATION.format(port=port, hosts=hosts, title=AE_TITLE, storage=storage)
        )
        return dcmtk.command("dcmqrscp", "-c", configuration, *options, port)

    def answers(port: int) -> bool:
        return dcmtk.run("echoscu", "-q", "-aec", AE_TITLE, "127.0.0.1", port).code == 0

    with dcmtk.listening(arguments, answers) as port:
        yield port


def fill(port: int, *files: Path, propose: str = "-x=") -> None:
    """Store objects in it."""
    dcmtk.done(dcmtk.store(port, *files, propose=propose, options=("-aec", AE_TITLE)))
