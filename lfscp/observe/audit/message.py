"""Builds one audit message: its parts after the schema, its codes, its text as JSON or XML.

Names are those of the schema, in JSON as in XML, so that either can be made of the other. Texts
come from peers: in JSON they are escaped, in XML what XML cannot hold is replaced. One that is long
is cut, and says how long it was and its digest: no message takes more than MAX_MESSAGE_BYTES.

Source: PS3.15 section A.5.1 (schema) and A.5.3 (events); PS3.16 CIDs 400 to 405 (codes).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final
from xml.etree import ElementTree

MAX_MESSAGE_BYTES: Final = 32 * 1024
MAX_VALUE_BYTES: Final = 1000  # of a text as it is written
MAX_KEYS_BYTES: Final = 6000  # of a detail: the keys of a query
MAX_SHORT_KEYS_BYTES: Final = 256  # the same of a query that is recorded in short
MAX_QUERY_BYTES: Final = 4096  # of an identifier, before it is encoded
MAX_SOP_CLASSES: Final = 64  # of a study; further ones are counted together
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class EventOutcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, coding scheme, meaning."""

    value: str
    meaning: str
    scheme: str = "DCM"

    def parts(self) -> dict[str, str]:
        return {
            "csd-code": self.value,
            "codeSystemName": self.scheme,
            "originalText": self.meaning,
        }


# Events (CID 400) and their types (CID 401).
APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", "Audit Log Used")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
NETWORK_ENTRY: Final = Code("110108", "Network Entry")
PROCEDURE_RECORD: Final = Code("110111", "Procedure Record")
QUERY: Final = Code("110112", "Query")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "User Authentication")
APPLICATION_START: Final = Code("110120", "Application Start")
APPLICATION_STOP: Final = Code("110121", "Application Stop")
LOGIN: Final = Code("110122", "Login")
LOGOUT: Final = Code("110123", "Logout")
ATTACH: Final = Code("110124", "Attach")
DETACH: Final = Code("110125", "Detach")
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
NETWORK_CONFIGURATION: Final = Code("110128", "Network Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", "Use of Restricted Function")
# Roles of participants (CID 402) and kinds of object identifiers (CID 404, RFC 3881).
APPLICATION: Final = Code("110150", "Application")
DESTINATION: Final = Code("110152", "Destination Role ID")
SOURCE: Final = Code("110153", "Source Role ID")
STUDY_INSTANCE_UID: Final = Code("110180", "Study Instance UID")
SOP_CLASS_UID: Final = Code("110181", "SOP Class UID")
NODE_ID: Final = Code("110182", "Node ID")
URI: Final = Code("12", "URI", "RFC-3881")
PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")

CREATE, READ, UPDATE, DELETE, EXECUTE = "CRUDE"  # EventActionCode


@dataclass(frozen=True, slots=True)
class Participant:
    """A participant (ActiveParticipant).

    Args:
        user_id: an AE title, or the name of a person who logged in.
        address: IP address or host name; empty when there is none.
        name: what a person would call it.
        role: one of the roles above.
        alternative: AlternativeUserID; of this node the number of the process.
    """

    user_id: str
    address: str = ""
    is_requestor: bool = False
    role: Code | None = None
    name: str = ""
    alternative: str = ""

    def parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"UserID": cut(self.user_id)}
        if self.alternative:
            parts["AlternativeUserID"] = self.alternative
        if self.name:
            parts["UserName"] = self.name
        parts["UserIsRequestor"] = self.is_requestor
        if self.role is not None:
            parts["RoleIDCode"] = [self.role.parts()]
        if self.address:
            is_number = ":" in self.address or self.address.replace(".", "").isdigit()
            parts["NetworkAccessPointID"] = cut(self.address)
            parts["NetworkAccessPointTypeCode"] = "2" if is_number else "1"
        return parts


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient (ParticipantObjectIdentification)."""

    patient_id: str
    name: str = ""

    def parts(self) -> dict[str, Any]:
        parts = _object(self.patient_id, "1", "1", PATIENT_NUMBER)
        parts["ParticipantObjectName"] = cut(self.name)
        return parts


@dataclass(frozen=True, slots=True)
class Study:
    """A study, with what of it took part (ParticipantObjectIdentification).

    Args:
        study_uid: its Study Instance UID.
        instances: how many of each SOP class, by UID.
        details: further values by name: bytes, counts of failures.
        procedure_step_uid: of the performed procedure step that is meant.
    """

    study_uid: str
    instances: Mapping[str, int]
    details: Mapping[str, object]
    procedure_step_uid: str = ""

    def parts(self) -> dict[str, Any]:
        parts = _object(self.study_uid, "2", "3", STUDY_INSTANCE_UID)
        parts["ParticipantObjectName"] = ""  # the schema wants a name or a query
        named = list(self.instances.items())[:MAX_SOP_CLASSES]
        details = dict(self.details)
        if len(named) < len(self.instances):
            details["further SOP classes"] = len(self.instances) - len(named)
            shown = sum(number for _, number in named)
            details["instances of these"] = sum(self.instances.values()) - shown
        if details:
            parts["ParticipantObjectDetail"] = _details(details)
        described: dict[str, list[dict[str, Any]]] = {}
        if self.procedure_step_uid:
            described["MPPS"] = [{"UID": cut(self.procedure_step_uid, _UID_BYTES)}]
        if named:
            described["SOPClass"] = [
                {"UID": cut(uid, _UID_BYTES), "NumberOfInstances": number} for uid, number in named
            ]
        if described:
            parts["ParticipantObjectDescription"] = described
        return parts


@dataclass(frozen=True, slots=True)
class QueryObject:
    """A query (ParticipantObjectIdentification); made by `QueryObject.of`.

    It is cut when it is made, since a message may be kept until it is told how many were alike.
    """

    said: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        sop_class_uid: str,
        identifier: bytes,
        details: Mapping[str, object],
        *,
        is_short: bool = False,
    ) -> QueryObject:
        """Make one.

        Args:
            sop_class_uid: of the query model.
            identifier: the encoded dataset of keys; ParticipantObjectQuery holds it in base 64, of
                a long one the beginning.
            details: transfer syntax, the keys as text, the number of matches.
            is_short: whether to leave out the identifier but for its length and digest, and most
                of long keys.
        """
        said = _object(sop_class_uid, "2", "3", SOP_CLASS_UID)
        kept, details = identifier[: 0 if is_short else MAX_QUERY_BYTES], dict(details)
        if len(kept) < len(identifier):
            details["query bytes"] = len(identifier)
            details["query sha256"] = hashlib.sha256(identifier).hexdigest()
        said["ParticipantObjectQuery"] = base64.b64encode(kept).decode("ascii")
        most = MAX_SHORT_KEYS_BYTES if is_short else MAX_KEYS_BYTES
        said["ParticipantObjectDetail"] = _details(details, most)
        return cls(said)

    def parts(self) -> dict[str, Any]:
        return dict(self.said)


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a security alert (ParticipantObjectIdentification)."""

    name: str
    description: str

    def parts(self) -> dict[str, Any]:
        parts = _object(self.name, "2", "13", NODE_ID)
        parts["ParticipantObjectName"] = cut(self.name)
        parts["ParticipantObjectDetail"] = _details({"Alert Description": self.description})
        return parts


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The audit trail itself (ParticipantObjectIdentification; PS3.15 section A.5.3.2)."""

    uri: str

    def parts(self) -> dict[str, Any]:
        return _object(self.uri, "2", "13", URI) | {"ParticipantObjectName": "Security Audit Log"}


Object = Patient | Study | QueryObject | Subject | AuditLog


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One event.

    Args:
        source: AuditSourceID: which node says so.
        action: C, R, U, D or E.
        reason: EventOutcomeDescription; empty for a success.
    """

    source: str
    event: Code
    action: str
    participants: tuple[Participant, ...]
    objects: tuple[Object, ...] = ()
    type: Code | None = None
    outcome: EventOutcome = EventOutcome.SUCCESS
    reason: str = ""

    def to_json(self, time: str = "") -> str:
        """One line of JSON, in ASCII.

        Args:
            time: of the event; now when empty.
        """
        event, who, source, objects = self._written(_json_of, time)
        return (
            f'{{"EventIdentification":{event},"ActiveParticipant":[{",".join(who)}],'
            f'"AuditSourceIdentification":{source},'
            f'"ParticipantObjectIdentification":[{",".join(objects)}]}}'
        )

    def to_xml(self, time: str = "") -> str:
        """One line of XML, without a declaration; `time` as in `to_json`.

        Source: PS3.15 section A.5.1.
        """
        event, who, source, objects = self._written(_xml_of, time)
        text = "".join((event, *who, source, *objects))
        return f"<AuditMessage>{text}</AuditMessage>".replace("\n", " ").replace("\r", " ")

    def _written(self, write: _Write, time: str) -> tuple[str, list[str], str, list[str]]:
        """The event, its participants, their source and their objects, each as text."""
        said = (self.action, self.outcome, self.event, self.type, cut(self.reason))
        return (
            _event(write, time or now(), *said),
            [_participant_of(write, each) for each in self.participants],
            _source(write, self.source),
            [write("ParticipantObjectIdentification", each.parts()) for each in self.objects],
        )


_Write = Callable[[str, dict[str, Any]], str]  # a part's name and content as text
_KEPT: Final = 64  # parts as text: many messages differ in their objects alone


@lru_cache(_KEPT)
def _event(
    write: _Write,
    time: str,
    action: str,
    outcome: EventOutcome,
    event: Code,
    kind: Code | None,
    reason: str,
) -> str:
    parts: dict[str, Any] = {
        "EventDateTime": time,
        "EventActionCode": action,
        "EventOutcomeIndicator": int(outcome),
        "EventID": event.parts(),
    }
    if kind is not None:
        parts["EventTypeCode"] = [kind.parts()]
    if reason:
        parts["EventOutcomeDescription"] = reason
    return write("EventIdentification", parts)


def _participant_of(write: _Write, participant: Participant) -> str:
    if len(participant.user_id) + len(participant.address) > MAX_VALUE_BYTES:
        return write("ActiveParticipant", participant.parts())
    return _participant(write, participant)


@lru_cache(_KEPT)
def _participant(write: _Write, participant: Participant) -> str:
    return write("ActiveParticipant", participant.parts())


@lru_cache(_KEPT)
def _source(write: _Write, source: str) -> str:
    parts = {"AuditSourceID": source, "AuditSourceTypeCode": [{"csd-code": "4"}]}  # on a server
    return write("AuditSourceIdentification", parts)


def _json_of(_: str, content: dict[str, Any]) -> str:
    return _encode(content)


def _xml_of(name: str, content: dict[str, Any]) -> str:
    parent = ElementTree.Element("AuditMessage")
    _add(parent, name, content)
    return ElementTree.tostring(parent[0], encoding="unicode")


_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
# What the schema has as elements of their own; everything else that is plain is an attribute.
_TEXT_ELEMENTS: Final = frozenset(
    {"EventOutcomeDescription", "ParticipantObjectName", "ParticipantObjectQuery"}
)


def cut(text: str, most: int = MAX_VALUE_BYTES) -> str:
    """A text, of a long one the beginning with its length and digest.

    Args:
        most: bytes that the beginning may take up when it is written, in JSON or XML.
    """
    if len(text) * _WIDEST <= most or _width(text) <= most:
        return text
    length = min(len(text), most)
    while _width(text[:length]) > most:
        length = length * 3 // 4
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{text[:length]}... ({len(text)} characters, sha256 {digest})"


_WIDEST: Final = 12  # bytes of a character: two escapes of JSON
_UID_BYTES: Final = 64


def _width(text: str) -> int:
    """Bytes that a text takes up in JSON or in XML, whichever is more."""
    return len(_encode(text)) + 5 * sum(map(text.count, '&<>"'))


def now() -> str:
    """EventDateTime."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _object(identifier: str, kind: str, role: str, identified_by: Code) -> dict[str, Any]:
    return {
        "ParticipantObjectID": cut(identifier),
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
        "ParticipantObjectIDTypeCode": identified_by.parts(),
    }


def _details(values: Mapping[str, object], most: int = MAX_KEYS_BYTES) -> list[dict[str, str]]:
    return [{"type": name, "value": cut(str(value), most)} for name, value in values.items()]


def _add(parent: ElementTree.Element, name: str, value: Any) -> None:
    """Put one part below its element, as the schema has it."""
    if isinstance(value, list):
        for each in value:
            _add(parent, name, each)
    elif isinstance(value, dict):
        element = ElementTree.SubElement(parent, name)
        for part, inner in value.items():
            _add(element, part, inner)
        if name == "ParticipantObjectDetail":  # its value is xs:base64Binary
            detail = value["value"].encode("utf-8", "backslashreplace")
            element.set("value", base64.b64encode(detail).decode("ascii"))
    elif name in _TEXT_ELEMENTS:
        ElementTree.SubElement(parent, name).text = _plain(value)
    else:
        parent.set(name, _plain(value))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _NOT_XML.sub("\ufffd", str(value))
