"""Who comes to two nodes during a soak of DICOMweb, and what they were promised.

Programs store studies by STOW-RS, have one node send or fetch them, search, and retrieve. What a
node acknowledged is noted, and held against it at the end.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from lfscp.dicom.part10.file_meta import read_part10

ANSWER_S = 30.0
ROOT = "1.2.826.0.1.3680043.10.1207."
PARTS = 'multipart/related; type="application/dicom"'
JSON = {"Accept": "application/dicom+json"}
LARGE_BYTES, SMALL_BYTES = 6_000_000, 30_000  # the first go through a file on their way


class NoAnswerError(Exception):
    """The node did not answer, or broke off: it was killed."""


class Node:
    """What is asked of one node.

    Args:
        port: of its page.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.root = f"http://127.0.0.1:{port}"
        self.kept: dict[str, dict[str, bytes]] = {}  # acknowledged: digests by study and instance

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, str, bytes]:
        """Status, Content-Type and body of an answer.

        Raises:
            NoAnswerError: there is none.
        """
        request = urllib.request.Request(self.root + path, body, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310 - ours
                return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except urllib.error.HTTPError as error:
            try:
                return error.code, error.headers.get("Content-Type", ""), error.read()
            except (OSError, http.client.HTTPException) as broken:
                raise NoAnswerError(str(broken)) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(str(error)) from None

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer of its API."""
        content = None if body is None else json.dumps(body).encode()
        status, _, text = self.ask(method, path, {"Content-Type": "application/json"}, content)
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text.decode("latin_1")


class Programs:
    """The clients of both nodes.

    Args:
        here: stores, and has the jobs.
        there: the peer of the jobs.

    Attributes:
        jobs: of the node `here`, with kind and study.
        failures: what must not be.
    """

    def __init__(self, here: Node, there: Node) -> None:
        self.here, self.there = here, there
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.jobs: dict[str, tuple[str, str]] = {}
        self._numbers = iter(range(10_000_000, 99_999_999))

    def repeatedly(self, act: Callable[[], None], pause_s: float) -> None:
        """Act until the soak ends."""
        while not self.stop.is_set():
            try:
                act()
            except NoAnswerError:
                self.count("requests cut off")
                time.sleep(0.2)
            self.stop.wait(random.uniform(0, 2 * pause_s))

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def fail(self, what: str) -> None:
        with self.lock:
            self.failures.append(what)

    def study_to_send(self) -> None:
        """Store a study here, and have it sent."""
        study = self._store(self.here)
        self._submit("send", study, {"studies": [study]})

    def study_to_fetch(self) -> None:
        """Store a study there, and have it retrieved."""
        study = self._store(self.there)
        self._submit("retrieve", study, {"keys": {"StudyInstanceUID": study}})

    def look(self) -> None:
        """What a search names can be retrieved, whole and as it was sent; nothing is half there."""
        node = random.choice((self.here, self.there))
        with self.lock:
            studies = list(node.kept)[-20:]
        if not studies:
            return
        study = random.choice(studies)
        with self.lock:
            promised = dict(node.kept[study])
        path = f"/dicom-web/studies/{study}"
        status, _, body = node.ask("GET", f"{path}/instances", JSON)
        found = _uids_of(body) if status == 200 else set()
        if status in (200, 204) and (lost := promised.keys() - found):
            self.fail(f"LOST at {node.name}: {sorted(lost)[:3]} of {study} is not found")
        objects = retrieved(node, path)
        if objects is None:
            return
        for uid in found - objects.keys():
            self.fail(f"HALF at {node.name}: {uid} is found, and cannot be retrieved")
        for uid, digest in promised.items():
            if objects.get(uid, digest) != digest:
                self.fail(f"WRONG at {node.name}: {uid} is not as it was sent")
        self.count("objects looked at", len(objects))

    def _submit(self, kind: str, study: str, wanted: dict[str, Any]) -> None:
        body = {"peer": "THERE", "retries": 100, **wanted}
        while not self.stop.is_set():
            try:
                status, answer = self.here.call("POST", f"/api/{kind}", body)
            except NoAnswerError:
                time.sleep(0.3)
                continue
            if status == 202:
                with self.lock:
                    self.jobs[answer["id"]] = (kind, study)
                self.count(f"jobs: {kind}")
                return
            if status != 503:
                self.fail(f"{kind} of {study}: {status} {answer}")
                return
            time.sleep(0.3)

    def _store(self, node: Node) -> str:
        """Store a study until all of it is acknowledged; its UID."""
        study = f"{ROOT}{next(self._numbers)}"
        left = _objects_of(study, random.randint(2, 12))
        digests = {uid: digest_of(file) for uid, file in left.items()}
        while left and not self.stop.is_set():
            try:
                stored = self._post(node, list(left.values()))
            except NoAnswerError:
                self.count("stores cut off")
                time.sleep(0.3)
                continue
            with self.lock:
                node.kept.setdefault(study, {}).update({uid: digests[uid] for uid in stored})
            self.count("objects acknowledged", len(stored))
            left = {uid: file for uid, file in left.items() if uid not in stored}
        return study

    def _post(self, node: Node, files: list[bytes]) -> set[str]:
        """Store files in one request; the UIDs that the node acknowledged."""
        boundary = secrets.token_hex(12)
        begin = f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(begin + file for file in files) + f"\r\n--{boundary}--\r\n".encode()
        headers = {**JSON, "Content-Type": f"{PARTS}; boundary={boundary}"}
        status, _, answer = node.ask("POST", "/dicom-web/studies", headers, body)
        if status not in (200, 202, 409, 503):
            self.fail(f"store at {node.name}: {status} {answer[:200]!r}")
        if status not in (200, 202):
            time.sleep(0.3)
            return set()
        items = json.loads(answer).get("00081199", {}).get("Value", [])
        return {item["00081155"]["Value"][0] for item in items}


def retrieved(node: Node, path: str) -> dict[str, bytes] | None:
    """The digests of the objects of a study by UID; None if they cannot all be given now."""
    headers = {"Accept": f"{PARTS}; transfer-syntax=*"}
    status, content_type, body = node.ask("GET", path, headers)
    if status == 404:
        return {}
    if status != 200:
        return None
    boundary = content_type.rpartition("boundary=")[2].strip('"').encode()
    found = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        file = part.partition(b"\r\n\r\n")[2]
        found[read_part10(file).sop_instance_uid] = digest_of(file)
    return found


def digest_of(file: bytes) -> bytes:
    """A digest of the dataset of a file."""
    return hashlib.sha256(file[read_part10(file).dataset_offset :]).digest()


def _uids_of(document: bytes) -> set[str]:
    return {match["00080018"]["Value"][0] for match in json.loads(document)}


def _objects_of(study: str, count: int) -> dict[str, bytes]:
    """The files of a new study by UID."""
    return {f"{study}.1.{number}": _file(study, number) for number in range(1, count + 1)}


def _file(study: str, number: int) -> bytes:
    uid = f"{study}.1.{number}"
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    data.StudyInstanceUID, data.SeriesInstanceUID = study, f"{study}.1"
    data.PatientID, data.PatientName = study[-8:], f"Soak^{study[-8:]}"
    data.Modality, data.StudyDate, data.InstanceNumber = "OT", "20260101", number
    size = LARGE_BYTES if random.random() < 0.03 else random.randrange(2, SMALL_BYTES, 2)
    data.add_new(0x00420011, "OB", secrets.token_bytes(size))  # Encapsulated Document
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()
