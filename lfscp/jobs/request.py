"""Defines the request of a job, and checks it before anything is stored; plain data without I/O.

Rules: a wrong request is refused with the name of the wrong field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from lfscp.ae_title import validate_ae_title
from lfscp.archive.correcting import CorrectionError, require_changes
from lfscp.jobs.model import JSON, SOURCES, JobKind
from lfscp.jobs.peers.described import JobPeer, misfit_of
from lfscp.scu.identifiers import identifier

# What a Patient Root query at level PATIENT can match (PS3.4 table C.6-1).
PATIENT_KEYS: Final = frozenset(
    {"PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"}
)
LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
MODELS: Final = ("study", "patient", "patient-study")
METHODS: Final = ("auto", "get", "move")
MAX_LISTED: Final = 10_000  # values of a list that a retrieve works off
MAX_ABOUT: Final = 20  # studies of which a job keeps what a query has told
ABOUT: Final = (
    *("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "StudyDescription"),
    "SeriesDescription",
)
_MAX_ABOUT_TEXT: Final = 324  # a name of three groups


class InvalidRequestError(ValueError):
    """The request of a job is wrong.

    Args:
        name: the wrong field ("parameters.keys.PatientNam").
        reason: what is wrong, and what was expected.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.field = name
        self.reason = reason


_PARAMETERS: Final = {
    JobKind.ECHO: {"retries"},
    JobKind.FIND: {"retries", "keys", "level", "model", "limit", "hierarchical"},
    JobKind.RETRIEVE: {
        *("retries", "keys", "level", "model", "method", "destination", "folder", "about"),
    },
    JobKind.SEND: {"retries", "paths", "studies", "series", "commit"},
    JobKind.COLLECT: {"retries", "keys", "model", "method", "about"},
    JobKind.CORRECT: {"retries", "studies", "study_keys", "changes", "user"},
    JobKind.EXPORT: {"retries", "studies", "series", "folder", "user"},
}


_CHOICES: Final = {"level": LEVELS, "model": MODELS, "method": METHODS}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The request of a job.

    Args:
        kind: "echo", "find", "retrieve", "send", "collect", "correct" or "export".
        peer: the peer to ask; several for "collect", none for "correct" and "export".
        parameters: by kind; `retries` for each (how often to try again while the peer is down).
            find: `keys` {keyword: value}, `level` ("STUDY"), `model` ("study", "patient" or
                "patient-study"), `limit` of matches, `hierarchical` (whether to ask level by level
                from the top, for keys that do not name one study or patient).
            retrieve: `keys`, `level`, `model`, `method` ("auto"), `destination` (our own AE title),
                `folder` (below web.roots, for a copy of the objects as files), `about` (what a
                query has told of the studies, to be shown: a list of {keyword: text}).
            send: `paths` (files and folders below web.roots), `studies` and `series` (UIDs of the
                archive), `commit` (whether an object counts as delivered only once the peer has
                committed to keep it).
            collect: `keys`, `model`, `method`, `about`.
            correct: `studies` (UIDs of the archive), `study_keys` (of their rows), `changes`
                {keyword: new value}, `user` (who asked for it).
            export: `studies`, `series`, `folder` (below web.roots), `user`.
            In the `keys` of retrieve and collect, one that is no UID may have a list of values, as
            accession numbers: the peer is asked for each by itself.
    """

    kind: str
    peer: JobPeer | Sequence[JobPeer]
    parameters: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def peers(self) -> tuple[JobPeer, ...]:
        """The peers to ask."""
        return (self.peer,) if isinstance(self.peer, JobPeer) else tuple(self.peer)

    def check(self, own_title: str = "") -> None:
        """Check all but the paths, which the service checks with the roots.

        Args:
            own_title: the node's AE title, where objects come that go nowhere else.
        Raises:
            InvalidRequestError: a field is wrong; names it.
        """
        if self.kind not in tuple(JobKind):
            expected = f"expected one of {', '.join(JobKind)}"
            raise InvalidRequestError("kind", f"{self.kind!r}, {expected}")
        kind = JobKind(self.kind)
        self._check_peers(kind)
        for name in self.parameters:
            if name not in _PARAMETERS[kind]:
                known = ", ".join(sorted(_PARAMETERS[kind]))
                raise InvalidRequestError(f"parameters.{name}", f"unknown field; known are {known}")
        _check_values(self.parameters)
        misfit = misfit_of(self.peers, self.parameters, own_title)
        if misfit is not None:
            raise InvalidRequestError(*misfit)
        if kind in (JobKind.SEND, JobKind.EXPORT):
            _check_sources(kind, self.parameters)
        elif kind is JobKind.CORRECT:
            _check_correction(self.parameters)
        elif kind is not JobKind.ECHO:
            _check_keys(kind, self.parameters.get("keys"))
            if kind is not JobKind.FIND:
                _check_patient(self.parameters)
                _check_listed(self.parameters)

    def _check_peers(self, kind: JobKind) -> None:
        count = len(self.peers)
        if kind in (JobKind.CORRECT, JobKind.EXPORT):
            if count:
                raise InvalidRequestError("peer", f"{count} peers, a {kind} takes none")
        elif not count or (count > 1 and kind is not JobKind.COLLECT):
            raise InvalidRequestError("peer", f"{count} peers, a {kind} takes one")


def _check_correction(parameters: Mapping[str, JSON]) -> None:
    studies, keys = parameters.get("studies"), parameters.get("study_keys")
    if not isinstance(studies, list) or not all(isinstance(each, str) for each in studies):
        raise InvalidRequestError("parameters.studies", "expected a list of texts")
    if not isinstance(keys, list) or not all(type(each) is int for each in keys):
        raise InvalidRequestError("parameters.study_keys", "expected a list of numbers")
    if not studies or len(studies) != len(keys):
        raise InvalidRequestError("parameters.studies", "expected as many as study_keys")
    changes = parameters.get("changes")
    if not isinstance(changes, dict):
        raise InvalidRequestError("parameters.changes", 'expected {"PatientID": "P1", …}')
    try:
        require_changes(changes)
    except CorrectionError as error:
        field = "parameters.changes"
        name = f"{field}.{error.keyword}" if changes else field
        raise InvalidRequestError(name, f"expected {error.expected}") from None
    if not isinstance(parameters.get("user", ""), str):
        raise InvalidRequestError("parameters.user", "expected a text")


def _check_values(parameters: Mapping[str, JSON]) -> None:
    for name, choices in _CHOICES.items():
        if parameters.get(name, choices[0]) not in choices:
            expected = f"expected one of {', '.join(choices)}"
            raise InvalidRequestError(f"parameters.{name}", f"{parameters[name]!r}, {expected}")
    level, model = parameters.get("level"), parameters.get("model", "study")
    if level == "PATIENT" and model == "study":
        raise InvalidRequestError("parameters.level", 'PATIENT needs the model "patient"')
    if level in ("SERIES", "IMAGE") and model == "patient-study":
        raise InvalidRequestError("parameters.level", f'the model "patient-study" has no {level}')
    folder = parameters.get("folder", "")
    if not isinstance(folder, str):
        raise InvalidRequestError("parameters.folder", "expected the path of a folder")
    about = parameters.get("about", [])
    if not isinstance(about, list) or len(about) > MAX_ABOUT or not all(map(_is_about, about)):
        expected = f"expected at most {MAX_ABOUT} of {{keyword: text}}"
        raise InvalidRequestError("parameters.about", expected)
    if type(parameters.get("hierarchical", False)) is not bool:
        raise InvalidRequestError("parameters.hierarchical", "expected true or false")
    for name in ("retries", "limit"):
        number = parameters.get(name, 1)
        if type(number) is not int or number < (1 if name == "limit" else 0):
            raise InvalidRequestError(f"parameters.{name}", f"{number!r}, expected a number")
    if parameters.get("destination"):
        try:
            validate_ae_title(parameters["destination"])
        except ValueError as error:
            raise InvalidRequestError("parameters.destination", f"expected {error}") from None


def _is_about(given: JSON) -> bool:
    """Whether something is what a query may have told of a study."""
    return isinstance(given, dict) and all(
        name in ABOUT and isinstance(text, str) and len(text) <= _MAX_ABOUT_TEXT
        for name, text in given.items()
    )


def _check_sources(kind: JobKind, parameters: Mapping[str, JSON]) -> None:
    for name in SOURCES:
        values = parameters.get(name, [])
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise InvalidRequestError(f"parameters.{name}", "expected a list of texts")
    if not any(parameters.get(name) for name in SOURCES):
        known = [name for name in SOURCES if name in _PARAMETERS[kind]]
        expected = f"expected {', '.join(known[:-1])} or {known[-1]}"
        raise InvalidRequestError("parameters", f"nothing to {kind}: {expected}")
    if kind is JobKind.EXPORT and not parameters.get("folder"):
        raise InvalidRequestError("parameters.folder", "expected the path of a folder")
    if not isinstance(parameters.get("user", ""), str):
        raise InvalidRequestError("parameters.user", "expected a text")
    if type(parameters.get("commit", False)) is not bool:
        raise InvalidRequestError("parameters.commit", "expected true or false")


def _check_keys(kind: JobKind, keys: JSON) -> None:
    if not isinstance(keys, dict) or (kind is not JobKind.FIND and not any(keys.values())):
        raise InvalidRequestError("parameters.keys", 'expected {"StudyInstanceUID": "1.2.3", …}')
    for keyword, value in keys.items():
        name = f"parameters.keys.{keyword}"
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise InvalidRequestError(name, "unknown field, no keyword of the DICOM dictionary")
        values = value if isinstance(value, list) else [value]
        is_plain = all(each is None or type(each) in (str, int, float) for each in values)
        if dictionary_VR(tag) == "SQ" or not is_plain:
            raise InvalidRequestError(name, "expected a text, a number or a list of them")
        try:
            identifier({keyword: value}, "STUDY")
        except ValueError:  # its text may quote the value, which may be a patient's
            vr = dictionary_VR(tag)
            raise InvalidRequestError(name, f"expected a value of an element of VR {vr}") from None


def _check_patient(parameters: Mapping[str, JSON]) -> None:
    keys = parameters["keys"]
    named = any(keys.get(keyword) for keyword in PATIENT_KEYS)
    if parameters.get("model", "study") != "study" and not named:
        raise InvalidRequestError(
            "parameters.keys", "this model needs a key of the patient, as PatientID or PatientName"
        )


def listed_key(keys: Mapping[str, JSON]) -> str:
    """The key of a retrieve whose values the peer is asked for one by one; "" if there is none.

    Of UIDs a peer takes a list (PS3.4 section C.2.2.2.2), of other values it does not.
    """
    return next((name for name, value in keys.items() if _is_listed(name, value)), "")


def _is_listed(keyword: str, value: JSON) -> bool:
    tag = tag_for_keyword(keyword)
    return isinstance(value, list) and tag is not None and dictionary_VR(tag) != "UI"


def _check_listed(parameters: Mapping[str, JSON]) -> None:
    keys = parameters["keys"]
    listed = listed_key(keys)
    if not listed:
        return
    name, values = f"parameters.keys.{listed}", keys[listed]
    if sum(_is_listed(each, value) for each, value in keys.items()) > 1:
        raise InvalidRequestError(name, "expected one list; another key has one too")
    if parameters.get("level", "STUDY") not in ("STUDY", "PATIENT"):
        raise InvalidRequestError(name, "a list needs the level STUDY")
    if len(values) > MAX_LISTED:
        raise InvalidRequestError(name, f"{len(values)} values, expected at most {MAX_LISTED}")
    for value in values:
        text = str(value).strip() if value is not None else ""
        if not text or set("*?\\") & set(text):
            reason = "expected values without wildcards, none of them empty"
            raise InvalidRequestError(name, reason)
