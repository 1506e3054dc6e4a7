"""`lfscp send` takes DICOM files as others write them, and sends them under the dataset's UIDs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from lfscp.dicom.part10.file_meta import part10_header
from lfscp.scu.files import NoObjectError, read_instance
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.serving import serving

UID = "1.2.3.1.1"
HEAD = part10_header(CT_IMAGE, UID, EXPLICIT)
META_WITHOUT_UID = b"\x02\x00\x10\x00UI\x02\x00\x1bc"
FORMS: dict[str, tuple[bytes, str]] = {
    "right": (HEAD, ""),
    "other UIDs": (part10_header("1.2.840.10008.5.1.4.1.1.7", "1.9.9", EXPLICIT), "1.9.9"),
    "no UIDs": (HEAD[:132] + HEAD[HEAD.index(b"\x02\x00\x10\x00UI") :], "lacks the SOP Class UID"),
    "no preamble": (HEAD[132:], "preamble and prefix DICM are missing"),
    "no group length": (HEAD[:132] + HEAD[144:], "group length is missing"),
    "bare": (b"", "the file meta information is missing"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_as_its_dataset(tmp_path: Path, form: str) -> None:
    head, note = FORMS[form]
    file = tmp_path / "file"
    file.write_bytes(head + encoded(1))
    notes: list[str] = []
    found = read_instance(file, notes.append)
    assert (found.sop_class_uid, found.sop_instance_uid) == (CT_IMAGE, UID)
    assert found.transfer_syntax_uid == EXPLICIT
    assert file.read_bytes()[found.dataset_offset :] == encoded(1)
    assert found.size == len(encoded(1))
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_dataset_that_says_nothing_is_sent_as_its_head_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(HEAD + b"\xff" * 40)
    found = read_instance(file)
    assert (found.sop_class_uid, found.sop_instance_uid) == (CT_IMAGE, UID)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: b"PK\x03\x04" + bytes(200), "a ZIP"),
        (lambda _: b"\x04\x00\x30\x11CS\0\0", "a DICOMDIR"),
        (lambda whole: FORMS["no UIDs"][0] + whole[whole.index(b"\x10\x00\x10\x00") :], "no SOP"),
    ],
)
def test_what_is_no_object_is_said(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(change(encoded(1)))
    with pytest.raises(NoObjectError, match=reason):
        read_instance(file)


BLANK_VR = struct.pack("<HH2sH", 0x0018, 0x0050, b"  ", 4) + b"2.50"  # Slice Thickness


def in_place(content: bytes, element: bytes) -> bytes:
    """A dataset with one element more, in front of group 0020."""
    at = content.index(b"\x20\x00\x0d\x00UI")
    return content[:at] + element + content[at:]


@pytest.mark.parametrize("odd", [False, True], ids=["even", "odd"])
def test_all_are_sent_to_a_receiver_that_takes_implicit_vr_only(tmp_path: Path, odd: bool) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    extra = struct.pack("<HH2sH", 0x0018, 0x1030, b"LO", 3) + b"odd" if odd else b""
    forms = {form: head for form, (head, _) in FORMS.items()}
    for number, head in enumerate(forms.values(), 1):
        own = head.replace(b"1.2.3.1.1\0", f"1.2.3.1.{number}\0".encode())
        (folder / f"{number}").write_bytes(own + in_place(encoded(number), BLANK_VR + extra))
    received: dict[str, tuple[object, ...]] = {}

    def keep(event: evt.Event) -> int:
        got = event.dataset
        values = (got.PatientName, got.SliceThickness, got.InstanceNumber, got.PixelData)
        received[got.SOPInstanceUID] = (event.context.transfer_syntax, *values)
        return 0x0000

    ae = AE("IMPLICIT")
    ae.add_supported_context(CT_IMAGE, ImplicitVRLittleEndian)
    with serving((evt.EVT_C_STORE, keep), ae=ae) as receiver:
        target = f"IMPLICIT@127.0.0.1:{receiver.server_address[1]}"
        result = run_lfscp("send", target, folder)
    assert (result.returncode, result.stdout) == (0, f"{len(FORMS)} sent\n"), result.stderr
    assert received == {
        f"1.2.3.1.{number}": (ImplicitVRLittleEndian, "Doe^Jane", 2.5, number, b"\0" * 64)
        for number in range(1, len(FORMS) + 1)
    }


def test_a_file_with_uids_that_are_none_keeps_no_other_back(
    node: NodeProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    no_uid = "1.2.840.10008.5.1.4.1.1.\xff"
    (folder / "1").write_bytes(encoded(1).replace(CT_IMAGE.encode(), no_uid.encode("latin_1")))
    (folder / "2").write_bytes(encoded(2).replace(b"1.2.3.1.2", b"1.2.3.1.a"))
    (folder / "3").write_bytes(HEAD[:132] + META_WITHOUT_UID + encoded(3))
    result = run_lfscp("send", f"LFSCP@127.0.0.1:{node.port}", folder)
    assert (result.returncode, result.stdout) == (1, "1 sent\n"), result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].endswith("1: not sent, its SOP Class UID is no valid UID")
    assert lines[1].endswith("2: not sent, its SOP Instance UID is no valid UID")
    assert "the transfer syntax '\\x1bc' is no UID" in lines[2]
    assert len(lines) == 3
    assert [path.stem for path in node.objects.rglob("*.dcm")] == ["1.2.3.1.3"]


def test_a_dicom_file_that_is_not_sent_is_a_failure_and_another_file_is_none(
    node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "good").write_bytes(HEAD + encoded(1))
    (tmp_path / "notes.txt").write_text("no object")
    result = run_lfscp(
        "send", f"LFSCP@127.0.0.1:{node.port}", tmp_path / "good", tmp_path / "notes.txt"
    )
    assert (result.returncode, result.stdout) == (0, "1 sent\n"), result.stderr
    (tmp_path / "torn").write_bytes(HEAD[:150])
    result = run_lfscp("send", f"LFSCP@127.0.0.1:{node.port}", tmp_path / "good", tmp_path / "torn")
    assert (result.returncode, result.stdout) == (1, "1 sent\n"), result.stderr


def test_all_are_sent_and_stored_under_their_own_uids(node: NodeProcess, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (head, _) in enumerate(FORMS.values(), 1):
        own = head.replace(b"1.2.3.1.1\0", f"1.2.3.1.{number}\0".encode())
        (folder / f"{number}").write_bytes(own + encoded(number))
    result = run_lfscp("send", f"LFSCP@127.0.0.1:{node.port}", folder)
    assert (result.returncode, result.stdout) == (0, f"{len(FORMS)} sent\n"), result.stderr
    assert len(result.stderr.splitlines()) == len(FORMS) - 1  # a note on each but the first
    stored = sorted(path.stem for path in node.objects.rglob("*.dcm"))
    assert stored == [f"1.2.3.1.{number}" for number in range(1, len(FORMS) + 1)]
