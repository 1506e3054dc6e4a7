#!/usr/bin/env python3
"""Measures how many CT of 512 KB one core de-identifies in a second, files read and written.

Usage: scripts/bench/deidentify.py [NUMBER] [FOLDER]

It counts CPU time of this thread, user and system, so other work on the machine matters little. For
comparison it measures reading and writing alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.options import Option

SLICES = 50


def ct(number: int, study: str, series: str) -> FileDataset:
    """A CT as scanners send them: some 120 elements, sequences, private ones, 512 x 512 pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    slice_.SOPClassUID = meta.MediaStorageSOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
    slice_.FrameOfReferenceUID = generate_uid()
    slice_.SpecificCharacterSet = "ISO_IR 100"
    slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword in ("Study", "Series", "Acquisition", "Content", "InstanceCreation"):
        setattr(slice_, keyword + "Date", "20240229")
        setattr(slice_, keyword + "Time", "101112.123456")
    for keyword in [
        "AccessionNumber",
        "StudyID",
        "PatientID",
        "StationName",
        "ProtocolName",
        "StudyDescription",
        "SeriesDescription",
        "InstitutionName",
        "InstitutionAddress",
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "PatientComments",
        "AdmissionID",
        "RequestingService",
        "ConvolutionKernel",
        "InstitutionalDepartmentName",
        "OtherPatientIDs",
    ]:
        setattr(slice_, keyword, f"{keyword} 1"[:16])
    for keyword in [
        "PatientName",
        "ReferringPhysicianName",
        "PerformingPhysicianName",
        "OperatorsName",
        "NameOfPhysiciansReadingStudy",
        "PhysiciansOfRecord",
    ]:
        setattr(slice_, keyword, "Doe^Jane")
    for keyword in [
        "KVP",
        "SliceThickness",
        "DataCollectionDiameter",
        "ReconstructionDiameter",
        "GantryDetectorTilt",
        "TableHeight",
        "DistanceSourceToDetector",
        "DistanceSourceToPatient",
        "SliceLocation",
        "WindowCenter",
        "WindowWidth",
        "RescaleIntercept",
        "RescaleSlope",
        "PatientWeight",
        "PatientSize",
        "TotalCollimationWidth",
    ]:
        setattr(slice_, keyword, 2.5)
    for keyword in [
        "ExposureTime",
        "XRayTubeCurrent",
        "Exposure",
        "GeneratorPower",
        "SeriesNumber",
        "AcquisitionNumber",
    ]:
        setattr(slice_, keyword, 7)
    slice_.Modality, slice_.PatientSex, slice_.BodyPartExamined = "CT", "F", "CHEST"
    slice_.PatientPosition, slice_.RotationDirection, slice_.FilterType = "HFS", "CW", "0"
    slice_.PatientAge, slice_.PatientBirthDate, slice_.InstanceNumber = "047Y", "19770101", number
    slice_.ImagePositionPatient = [-250, -250, number]
    slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing = [0.9, 0.9]
    for keyword in ("ReferencedImageSequence", "SourceImageSequence", "ReferencedStudySequence"):
        item = Dataset()
        item.ReferencedSOPClassUID = CTImageStorage
        item.ReferencedSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        setattr(slice_, keyword, [item, item])
    for keyword in ("ProcedureCodeSequence", "RequestAttributesSequence", "AnatomicRegionSequence"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-D3000", "SRT", "Chest"
        setattr(slice_, keyword, [item])
    block = slice_.private_block(0x0029, "A SCANNER", create=True)
    for element in range(30):
        block.add_new(element, "LO", f"private {element}")
    block.add_new(0x40, "OB", bytes(8192))
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.Rows = slice_.Columns = 512
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
    slice_.PixelRepresentation = 0
    slice_.PixelData = bytes(512 * 512 * 2)
    return slice_


def rate(work: Callable[[int], None], number: int) -> float:
    """How many a second of CPU time."""
    begin = time.thread_time()
    for each in range(number):
        work(each)
    return number / (time.thread_time() - begin)


def main() -> None:
    """Measure and print."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        study, series = generate_uid(), generate_uid()
        sources = [Path(folder, f"in{each}") for each in range(SLICES)]
        for each, path in enumerate(sources):
            ct(each, study, series).save_as(path, enforce_file_format=True)
        target = Path(folder, "out")

        def copy(each: int) -> None:
            target.write_bytes(sources[each % SLICES].read_bytes())

        print(f"reading and writing alone   {rate(copy, number):6.0f} a second and core")
        for name, options in (
            ("Basic Profile", ()),
            ("all that is kept or cleaned", set(Option) - {Option.RETAIN_FULL_DATES}),
        ):
            deidentifier = Deidentifier(options, key=bytes(16))

            def work(each: int, deidentifier: Deidentifier = deidentifier) -> None:
                found = deidentifier.deidentify(sources[each % SLICES].read_bytes())
                with target.open("wb", buffering=0) as file:
                    file.writelines(found.file())

            work(0)
            print(f"{name:<27} {rate(work, number):6.0f} a second and core")


if __name__ == "__main__":
    main()
