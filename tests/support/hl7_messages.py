"""HL7 messages as systems of hospitals send them, and a client for MLLP."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Self

STUDY = "1.2.826.0.1.3680043.8.498.4711"


def message(*segments: str, charset: str = "utf-8") -> bytes:
    """The bytes of a message."""
    return "".join(f"{each}\r" for each in segments).encode(charset)


def header(kind: str, control_id: str = "C1", version: str = "2.3.1", charset: str = "") -> str:
    """MSH from a RIS."""
    return (
        f"MSH|^~\\&|RIS|RADIOLOGY|LFSCP|PACS|20261128081500||{kind}|{control_id}|P|{version}"
        f"||||||{charset}"
    ).rstrip("|")


PID = "PID|1||4711^^^HOSP^MR~S-99^^^SSA^SS||Müller^Jörg^K^Jr^Dr.^PhD||19700102|M"
PV1 = "PV1|1|I|W3^12^B^HOSP||||99^Hausarzt^Eva^^^Dr.|88^Grey^Meredith|||||||||||V-2001"


def orm(
    control: str = "NW",
    *,
    status: str = "SC",
    placer: str = "P100^HIS",
    filler: str = "F200^RIS",
    step: str = "SPS1",
    accession: str = "A300",
    procedure: str = "RP1",
    modality: str = "CT",
    at: str = "202612011030",
    pid: str = PID,
    study: str = STUDY,
    control_id: str = "C1",
    protocol: str = "CTHEAD^CT head routine^RIS",
) -> bytes:
    """An order of IHE RAD-4 in HL7 2.3.1, from a filler."""
    obr = [""] * 37
    obr[0], obr[1], obr[2], obr[3] = "OBR", "1", placer, filler
    obr[4] = f"CT1^CT of the head^RIS^{protocol}"
    obr[12], obr[13] = "^ambulatory", "Pacemaker"
    obr[16] = "77^House^Gregory^^^Dr."
    obr[18], obr[19], obr[20] = accession, procedure, step
    obr[24], obr[27] = modality, f"^^^{at}^^S"
    obr[30], obr[31] = "WALK", "^Headache \\T\\ nausea"
    obr[34] = "55&Tech&Tina"
    segments = [
        header("ORM^O01", control_id),
        pid,
        PV1,
        "AL1|1|DA|IOD^Iodine",
        f"ORC|{control}|{placer}|{filler}||{status}||^^^{at}^^S||20261127100000|12^Nurse^Nora||"
        "77^House^Gregory|W3|||||",
        "|".join(obr),
        "NTE|1||Please call before",
        "OBX|1|NM|3141-9^BODY WEIGHT^LN||72500|g",
        f"ZDS|{study}^LFSCP^Application^DICOM" if study else "ZXX|1",
    ]
    return message(*segments)


def omi(
    control: str = "NW",
    *,
    steps: Iterable[tuple[str, str, str]] = (("SPS1", "MR", "MR01"), ("SPS2", "MR", "MR02")),
    control_id: str = "C1",
    at: str = "202612020900",
) -> bytes:
    """An order of IHE RAD-4 in HL7 2.5.1, with a step for each (ID, modality, AE title)."""
    ipc = [
        f"IPC|A400|RP9|{STUDY}.9|{step}|{modality}|MRKNEE^Knee routine^RIS|STATION {step}"
        f"|ROOM^Room 4|{title}"
        for step, modality, title in steps
    ]
    return message(
        header("OMI^O23^OMI_O23", control_id, "2.5.1", "UNICODE UTF-8"),
        "PID|1||815^^^&1.2.3.4&ISO^PI||山田^太郎^^^^^L^I~Yamada^Tarou^^^^^L^A"
        "~やまだ^たろう^^^^^L^P||19820304|F",
        "PV1|1|O|OPD||||||||||||B6||||V-7",
        f"ORC|{control}|P900|F900||SC||||20261128|||31^Watson^John|||||SURG^Surgery^HOSP",
        f"TQ1|1||||||{at}||A",
        "OBR|1|P900|F900|MR2^MR knee^RIS||||||||||||31^Watson^John|||||||||||||||^Pain"
        "|||||||||||||MRK^Knee MR^RIS",
        *ipc,
    )


def adt(event: str, *more: str, pid: str = PID, control_id: str = "C1") -> bytes:
    """A message about a patient."""
    return message(header(f"ADT^{event}", control_id), f"EVN|{event}|20261128", pid, *more)


class MLLPClient:
    """A sender."""

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, data: bytes, chunk: int = 0) -> str:
        """Send a message, in pieces of so many bytes, and wait for the answer."""
        framed = b"\x0b" + data + b"\x1c\r"
        for at in range(0, len(framed), chunk or len(framed)):
            self.socket.sendall(framed[at : at + (chunk or len(framed))])
        return self.answer()

    def answer(self) -> str:
        """The next answer; empty when the connection ended."""
        while b"\x1c\r" not in self._left:
            part = self.socket.recv(4096)
            if not part:
                return ""
            self._left += part
        found, _, self._left = self._left.partition(b"\x1c\r")
        assert found.startswith(b"\x0b")
        return found[1:].decode()


def segment(answer: str, name: str) -> list[str]:
    """The fields of a segment of an answer, [0] its name; MSH-1 is missing."""
    return next(each.split("|") for each in answer.split("\r") if each.startswith(name))
