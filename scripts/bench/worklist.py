"""Times worklist queries of lfscp beside DCMTK's wlmscpfs and Orthanc's plugin, on the same items.

    python scripts/bench/worklist.py

There are 20 stations; each has the same number of items on each of ten days. One client asks one
server at a time, over one association that stays open, for what is to be done on one station and
day, and for one Accession Number. Every server has to find the same. wlmscpfs and Orthanc read the
items from .wl files, lfscp has them in its index.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peers import dul
from peers.server import end_when_told, running
from peers.targets import AET, DCMTK, ORTHANC, ClientMode, Launch, Target, lfscp_program
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian
from tables import Samples, number, table

from lfscp.archive.durability import Durability
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import Tree, encode_tree, read_tree

WORKLIST = "1.2.840.10008.5.1.4.31"
PLUGIN = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")
STATIONS, DAYS = 20, 10
CONTEXT = 1
ASSOCIATE = dul.encode_associate_rq(AET, [dul.ProposedContext(CONTEXT, WORKLIST)])
RETURNED = (
    *((0x0008, 0x0090), (0x0010, 0x0010), (0x0010, 0x0020), (0x0010, 0x0030), (0x0010, 0x0040)),
    *((0x0020, 0x000D), (0x0032, 0x1060), (0x0038, 0x0010), (0x0040, 0x1001)),
)
RETURNED_OF_STEP = ((0x0040, 0x0003), (0x0040, 0x0006), (0x0040, 0x0007), (0x0040, 0x0009))


def items(count: int) -> Iterator[Tree]:
    """The items of the worklist."""
    for at in range(count):
        step = Dataset()
        step.ScheduledStationAETitle = f"CT{at % STATIONS:02d}"
        step.ScheduledProcedureStepStartDate = f"202612{at // STATIONS % DAYS + 1:02d}"
        step.ScheduledProcedureStepStartTime = f"{at % 24:02d}{at % 60:02d}00"
        step.Modality = "CT"
        step.ScheduledPerformingPhysicianName = "House^Gregory"
        step.ScheduledProcedureStepDescription = "CT of the head"
        step.ScheduledProcedureStepID = f"S{at}"
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 100"
        item.AccessionNumber = f"A{at}"
        item.ReferringPhysicianName = "Grey^Meredith"
        item.PatientName = f"Müller{at}^Jörg"
        item.PatientID = f"P{at}"
        item.PatientBirthDate = "19700102"
        item.PatientSex = "M"
        item.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.{at}"
        item.RequestedProcedureDescription = "Head"
        item.RequestedProcedureID = f"R{at}"
        item.AdmissionID = f"V{at}"
        item.ScheduledProcedureStepSequence = [step]
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        write_dataset(out, item)
        yield read_tree(out.getvalue(), ExplicitVRLittleEndian)


def write_files(folder: Path, count: int) -> None:
    """The items as .wl files, in the folder that wlmscpfs and Orthanc read."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"  # DCMTK's, for such files
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.3"
    out = DicomBytesIO()
    write_file_meta_info(out, meta)
    head = bytes(128) + b"DICM" + out.getvalue()
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    for at, tree in enumerate(items(count)):
        (folder / f"{at}.wl").write_bytes(head + encode_tree(tree, character_set="ISO_IR 100"))


def fill(data: Path, count: int) -> None:
    """The items in the index of a node that is to be started."""
    data.mkdir(parents=True)
    index = Index(sqlite_url(data / "index.sqlite"), Durability.OS)
    Worklist(index).put_all("api", ((str(at), each, "") for at, each in enumerate(items(count))))
    index.close()


def targets(files: Path, filled: Path) -> list[Target]:
    """The servers, each over the same items."""

    def lfscp(launch: Launch) -> list[str]:
        shutil.copytree(filled, launch.data, dirs_exist_ok=True)
        serve = [lfscp_program(), "serve", "--host", "127.0.0.1", "--port", str(launch.port)]
        return [*serve, "--aet", AET, "--data-dir", str(launch.data), "--no-http"]

    def wlmscpfs(launch: Launch) -> list[str]:
        return [f"{DCMTK}/wlmscpfs", "-q", "-dfp", str(files), str(launch.port)]

    def orthanc(launch: Launch) -> list[str]:
        settings = {
            "StorageDirectory": str(launch.data / "db"),
            "IndexDirectory": str(launch.data / "db"),
            "Plugins": [str(PLUGIN)],
            "HttpServerEnabled": False,
            "DicomAet": AET,
            "DicomPort": launch.port,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowFindWorklist": True,
            "Worklists": {"Enable": True, "Database": str(files / AET)},
        }
        config = launch.data / "orthanc.json"
        config.write_text(json.dumps(settings))
        return [ORTHANC, str(config)]

    return [
        Target("lfscp", "", lfscp),
        Target("wlmscpfs", "", wlmscpfs, program=f"{DCMTK}/wlmscpfs"),
        Target("orthanc", "", orthanc, program=ORTHANC if PLUGIN.exists() else str(PLUGIN)),
    ]


def _request(of_item: dict[tuple[int, int], str], of_step: dict[tuple[int, int], str]) -> bytes:
    step = dul.encode_identifier({**dict.fromkeys(RETURNED_OF_STEP, ""), **of_step})
    inside = dul.encode_element(0xFFFE, 0xE000, step)
    sequence = dul.encode_element(0x0040, 0x0100, inside)
    keys = {**dict.fromkeys(RETURNED, ""), **of_item}
    before = {tag: text for tag, text in keys.items() if tag < (0x0040, 0x0100)}
    after = {tag: text for tag, text in keys.items() if tag > (0x0040, 0x0100)}
    identifier = dul.encode_identifier(before) + sequence + dul.encode_identifier(after)
    return dul.encode_find(CONTEXT, identifier, sop_class=WORKLIST)


STATION_AND_DAY = _request(
    {}, {(0x0008, 0x0060): "CT", (0x0040, 0x0001): "CT07", (0x0040, 0x0002): "20261204"}
)
ACCESSION_NUMBER = _request({(0x0008, 0x0050): "A77"}, {})


def measure(target: Target, folder: Path, expected: dict[bytes, int], seconds: float) -> list[str]:
    """The row of one server: the least and the middle time of each query, in milliseconds."""
    cells = [target.name]
    log = folder.with_suffix(".log")
    with running(target, folder, 0, ClientMode.NODELAY, log) as server:
        association = dul.open_association(server.port, ASSOCIATE, 300)
        for request, wanted in expected.items():
            samples, ends = Samples(), time.monotonic() + seconds
            while not samples.values or time.monotonic() < ends:
                started = time.perf_counter()
                *found, final = association.responses(request)
                samples.add_seconds(time.perf_counter() - started)
                if (len(found), final.status) != (wanted, dul.STATUS_SUCCESS):
                    raise SystemExit(f"{target.name}: {len(found)} items, {final.status:#06x}")
            cells += [number(samples.least / 1000), number(samples.median / 1000)]
        association.release()
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000, help="a multiple of 200")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each query of each server")
    parser.add_argument("--targets", default="lfscp,wlmscpfs,orthanc")
    parser.add_argument("--folder", type=Path, default=None, help="where everything goes")
    arguments = parser.parse_args()
    end_when_told()
    chosen = arguments.targets.split(",")
    expected = {STATION_AND_DAY: arguments.items // (STATIONS * DAYS), ACCESSION_NUMBER: 1}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_files(folder / "files" / AET, arguments.items)
        fill(folder / "filled", arguments.items)
        rows = [
            measure(target, folder / target.name, expected, arguments.seconds)
            for target in targets(folder / "files", folder / "filled")
            if target.name in chosen and not target.absence
        ]
    header = ["server", f"{expected[STATION_AND_DAY]} items: least", "median", "1 item: least"]
    print(f"{arguments.items} items, milliseconds for each query")
    print(table([*header, "median"], rows))


if __name__ == "__main__":
    main()
