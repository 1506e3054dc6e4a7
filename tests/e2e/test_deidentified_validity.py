"""De-identified objects are as valid as they were, by dciodvfy, and other libraries agree.

dciodvfy (dicom3tools) checks an object against its IOD. No error may come that was not there
before, for every class of pydicom's test files.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import warnings
from collections import defaultdict
from pathlib import Path

import pytest
from dicognito.anonymizer import Anonymizer
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import generate_uid

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.options import Option
from lfscp.deidentification.pixels.burned_in import DeviceRule
from tests.support.ci import in_ci

KEY = b"the key of a project"
ALL = tuple(set(Option) - {Option.RETAIN_FULL_DATES})
# Every device draws nothing, so that objects of each class come out.
DEVICES = (DeviceRule((), ()),)
_NAME_OF_VALUE = re.compile(r"(UID) \S+")


def objects_by_class() -> dict[str, list[bytes]]:
    """The sound files of pydicom, up to three of each class, with the UIDs that some lack."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for path in sorted(get_testdata_files("*.dcm")):
        try:
            dataset = dcmread(path)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
                if not dataset.get(keyword):
                    setattr(dataset, keyword, generate_uid(entropy_srcs=[path]))
            if len(found[dataset.SOPClassUID.name]) < 3:
                target = io.BytesIO()
                dcmwrite(target, dataset)
                found[dataset.SOPClassUID.name].append(target.getvalue())
        except Exception:  # noqa: BLE001, S112 - some files are broken on purpose
            continue
    return {name: files for name, files in found.items() if files}


@pytest.fixture(scope="module", autouse=True)
def quiet_pydicom() -> None:
    warnings.simplefilter("ignore")


@pytest.fixture(scope="module")
def objects() -> dict[str, list[bytes]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return objects_by_class()


def errors_of(content: bytes, folder: Path) -> set[str]:
    """What dciodvfy finds wrong, without the UIDs that it quotes."""
    path = folder / "object.dcm"
    path.write_bytes(content)
    done = subprocess.run(["dciodvfy", path], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return {_NAME_OF_VALUE.sub(r"\1", line) for line in lines if line.startswith("Error")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [(), ALL], ids=["basic", "all-options"])
def test_objects_of_every_class_are_as_valid_as_before(
    objects: dict[str, list[bytes]], tmp_path: Path, options: tuple[Option, ...]
) -> None:
    if shutil.which("dciodvfy") is None:
        (pytest.fail if in_ci() else pytest.skip)("not installed: dciodvfy")
    deidentifier = Deidentifier(options, KEY, DEVICES)
    checked = set()
    for name, files in objects.items():
        for content in files:
            try:
                found = deidentifier.deidentify(content).to_bytes()
            except HeldBackError:
                continue
            assert not errors_of(found, tmp_path) - errors_of(content, tmp_path), name
            checked.add(name)
    assert len(checked) >= 10


@pytest.mark.filterwarnings("ignore")
def test_the_uids_that_stay_are_those_that_dicognito_leaves(
    objects: dict[str, list[bytes]],
) -> None:
    """Where dicognito keeps a UID, so do we; where it makes a new one, we do."""
    deidentifier = Deidentifier((), KEY, DEVICES)
    compared = 0
    for files in objects.values():
        for content in files:
            try:
                ours = read(deidentifier.deidentify(content).to_bytes())
            except HeldBackError:
                continue
            before, theirs = read(content), read(content)
            Anonymizer(seed="seed").anonymize(theirs)
            stays, theirs_stays = stayed(before, ours), stayed(before, theirs)
            for keyword in stays.keys() & theirs_stays.keys():
                assert stays[keyword] == theirs_stays[keyword], keyword
                compared += 1
    assert compared > 50


def read(content: bytes) -> FileDataset:
    return dcmread(io.BytesIO(content))


def stayed(before: Dataset, after: Dataset) -> dict[str, bool]:
    """Whether the UID of each attribute at the top is the same as before."""
    return {
        each.keyword: each.value == after[each.tag].value
        for each in before
        if each.VR == "UI" and each.value and each.tag in after
    }
