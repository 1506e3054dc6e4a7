"""The DICOM conformance statement of a node as configured, in Markdown; ordered like PS3.2 annex N.

Made from what the node itself uses: the presentation contexts it accepts, the attributes it
indexes, the statuses it answers, the settings in effect. Nothing is opened and nobody is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.uid import UID
from pynetdicom import (
    PYNETDICOM_IMPLEMENTATION_UID,
    PYNETDICOM_IMPLEMENTATION_VERSION,
    sop_class,
)
from pynetdicom.presentation import PresentationContext

from lfscp import __version__
from lfscp.archive.query.query import Model
from lfscp.config import Settings
from lfscp.dicom.attributes import COMPUTED, LEVELS, at_level
from lfscp.services import models, status
from lfscp.services.contexts import VERIFICATION, contexts

_CHARACTER_SETS = (
    ("", "default repertoire (ISO 646)"),
    ("ISO_IR 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 166, 13", "single-byte sets"),
    ("ISO 2022 IR 6, 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 166, 13", "with extensions"),
    ("ISO 2022 IR 87, 159, 149, 58", "multi-byte sets with extensions"),
    ("ISO_IR 192, GB18030, GBK", "multi-byte sets without extensions"),
)

_STATUSES = (
    ("C-STORE", status.SUCCESS, "stored; after a power cut it is still there (durability full)"),
    (
        "C-STORE",
        status.OUT_OF_RESOURCES,
        "out of resources, nothing kept; also: duplicate rejected",
    ),
    (
        "C-STORE",
        status.DATASET_DOES_NOT_MATCH,
        "the dataset's SOP class or instance UID is not the command's",
    ),
    (
        "C-STORE",
        status.CANNOT_UNDERSTAND,
        "cannot understand: broken encoding, or a UID is missing",
    ),
    ("C-STORE", status.PROCESSING_FAILURE, "processing failure, nothing acknowledged"),
    ("C-FIND", status.PENDING, "pending, a match"),
    (
        "C-FIND",
        status.PENDING_WITHOUT_OPTIONAL_KEYS,
        "pending, a match; an optional key was not matched",
    ),
    (
        "C-FIND",
        status.OUT_OF_RESOURCES,
        "out of resources; also: max_results reached, or the index failed",
    ),
    (
        "C-FIND, C-MOVE, C-GET",
        status.IDENTIFIER_DOES_NOT_MATCH,
        "level or unique key missing or wrong",
    ),
    ("C-FIND, C-MOVE, C-GET", status.UNABLE_TO_PROCESS, "unable to process"),
    ("C-FIND, C-MOVE, C-GET", status.CANCELLED, "cancelled by the requestor"),
    ("C-MOVE, C-GET", status.PENDING, "sub-operations continue"),
    ("C-MOVE, C-GET", status.CANNOT_COUNT_MATCHES, "the matches cannot be counted"),
    (
        "C-MOVE, C-GET",
        status.CANNOT_PERFORM_SUB_OPERATIONS,
        "no sub-operation succeeded, or the destination cannot be reached",
    ),
    (
        "C-MOVE, C-GET",
        status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES,
        "complete, some sub-operations failed; their list is sent",
    ),
    (
        "C-MOVE",
        status.MOVE_DESTINATION_UNKNOWN,
        "the destination is not configured, may not receive, or is no AE title",
    ),
    ("all", status.NOT_AUTHORISED, "not authorised: the peer's `may` does not allow the service"),
    (
        "all",
        status.SOP_CLASS_NOT_SUPPORTED,
        "SOP class not supported, or not the one of the presentation context",
    ),
    ("all", status.UNRECOGNISED_OPERATION, "the SOP class has no such operation"),
)


def statement(settings: Settings) -> str:
    """The whole statement, as Markdown."""
    supported = contexts(settings)
    parts = (
        _overview(settings),
        _associations(settings),
        _verification_and_query(supported),
        _storage(settings, supported),
        _query_keys(),
        _retrieve(settings),
        _statuses(),
        _network(settings),
        _peers(settings),
        _character_sets(),
        _security(settings),
    )
    return "\n".join(parts)


def _overview(settings: Settings) -> str:
    return f"""\
# DICOM conformance statement: lfscp {__version__}

Made by `lfscp conformance` for the node `{settings.server.ae_title}` as configured.

## 1 Overview

A DICOM archive. One application entity serves all services below; each association is served by
one thread of a leader/follower pool.

{_table(("network service", "as user (SCU)", "as provider (SCP)"), _SERVICES)}

Media interchange, worklist, print and storage commitment are not supported.
"""


_SERVICES = (
    ("Verification", "yes", "yes"),
    ("Storage", "yes", "yes"),
    ("Query: Patient Root, Study Root", "yes", "yes"),
    ("Retrieve: C-MOVE and C-GET in the same models", "yes", "yes"),
    ("Query and retrieve: Patient/Study Only (retired)", "no", "yes"),
)


def _associations(settings: Settings) -> str:
    server = settings.server
    limit = settings.server.max_associations or "no limit"
    rows = (
        ("application context", "1.2.840.10008.3.1.1.1"),
        ("AE title", server.ae_title),
        ("associations at once", str(limit)),
        ("served at once", str(settings.pool.max_running or "no limit")),
        ("asynchronous operations", "one operation at a time; a second one: A-ABORT"),
        (
            "data set of a request other than C-STORE",
            f"at most {settings.budgets.request_mb} MB; a larger one: A-ABORT",
        ),
        (
            "maximum PDU received",
            f"{server.max_pdu_bytes} bytes" if server.max_pdu_bytes else "any",
        ),
        ("Implementation Class UID", str(PYNETDICOM_IMPLEMENTATION_UID)),
        ("Implementation Version Name", PYNETDICOM_IMPLEMENTATION_VERSION),
        ("called AE title must be ours", _yes(server.require_called_ae_title)),
        ("calling AE title must be configured", _yes(server.require_known_peers)),
        ("ACSE, DIMSE, network timeout", _timeouts(settings)),
    )
    return f"""\
## 2 Associations

{_table(("property", "value"), rows)}

Associations are opened to the destinations of C-MOVE requests, for the jobs of the page and the
API, and by `lfscp echo`, `find`, `get`, `move` and `send`. SCP/SCU role selection is accepted for
storage SOP classes, so that a requestor of C-GET can be their SCP. SOP Class Extended Negotiation
is answered for query (relational queries; combined date-time matching) and retrieve (relational
retrieval).
"""


def _timeouts(settings: Settings) -> str:
    server = settings.server
    return (
        f"{server.acse_timeout_s:g} s, {server.dimse_timeout_s:g} s, {server.network_timeout_s:g} s"
    )


def _verification_and_query(supported: Iterable[PresentationContext]) -> str:
    named = {VERIFICATION, *models.QUERY_MODELS, *models.RETRIEVE_MODELS}
    rows, syntaxes = [], set()
    for context in supported:
        if str(context.abstract_syntax) in named:
            rows.append(_sop_class(context))
            syntaxes.add(tuple(context.transfer_syntax))
    return f"""\
## 3 Verification, query and retrieve: presentation contexts

{_table(("SOP class", "UID", "our role"), rows)}

Transfer syntaxes, in order of preference:

{_syntax_lists(syntaxes)}
"""


def _storage(settings: Settings, supported: Iterable[PresentationContext]) -> str:
    named = {VERIFICATION, *models.QUERY_MODELS, *models.RETRIEVE_MODELS}
    by_syntaxes: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for context in supported:
        if str(context.abstract_syntax) not in named:
            syntaxes = tuple(str(uid) for uid in context.transfer_syntax)
            by_syntaxes[syntaxes].append(_sop_class(context))
    rows = [row for group in by_syntaxes.values() for row in group]
    unknown = "accepted too" if settings.storage.accept_unknown_sop_classes else "rejected"
    return f"""\
## 4 Storage: presentation contexts

{_table(("SOP class", "UID", "our role"), rows)}

Other SOP classes are {unknown}. Transfer syntaxes, in order of preference:

{_syntax_lists(by_syntaxes)}

Level of conformance: 2 (full); all attributes are kept, private ones too, and the dataset's bytes
are exactly those received. An instance that is stored again with other content:
`{settings.duplicates}`; under another Patient ID, study or series it is refused with 0xA900 unless
it is replaced. A Series Instance UID counts within its study, a Study Instance UID within its
patient (Patient ID and issuer; without a Patient ID each study has a patient of its own).
"""


def _syntax_lists(lists: Iterable[tuple[str, ...]]) -> str:
    known = dict.fromkeys(uid for syntaxes in lists for uid in syntaxes)
    return _table(("transfer syntax", "UID"), [(UID(uid).name, str(uid)) for uid in known])


def _sop_class(context: PresentationContext) -> tuple[str, str, str]:
    uid = UID(str(context.abstract_syntax))
    roles = "SCP, SCU" if context.scu_role else "SCP"
    return (
        uid.name if uid.name != uid else _keywords().get(str(uid), "(private)"),
        str(uid),
        roles,
    )


@cache
def _keywords() -> dict[str, str]:
    """SOP classes by UID as pynetdicom calls them; some are not in pydicom's dictionary yet."""
    return {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, UID)}


def _query_keys() -> str:
    parts = ["## 5 Query: levels and keys\n"]
    rows = [
        (model.name.replace("_", " ").title(), ", ".join(level.value for level in model.levels))
        for model in Model
    ]
    parts.append(_table(("information model", "levels"), rows) + "\n")
    for level in LEVELS:
        computed = tuple(each for each in COMPUTED if each.level is level)
        keys = [
            (keyword_name(each.keyword), f"({each.tag >> 16:04X},{each.tag & 0xFFFF:04X})", each.vr)
            for each in (*at_level(level), *computed)
        ]
        parts.append(f"### {level.value}\n")
        parts.append(_table(("attribute", "tag", "VR"), keys) + "\n")
    parts.append(
        "Matching: single value, list of UID, universal, wildcard, range of dates and times, "
        "sequence. Person names match without regard to case. Of a sequence the items that match "
        "are returned. Keys that are not listed are not matched. At IMAGE level they are returned "
        "from the object, but for private attributes and Pixel Data; elsewhere they are not "
        "returned. The status FF01 tells of a key that is not returned, or whose value was not "
        "matched. Listed keys without a value come back empty.\n"
    )
    return "\n".join(parts)


def keyword_name(keyword: str) -> str:
    """The name of an attribute, e.g. "Patient's Name" for PatientName."""
    tag = tag_for_keyword(keyword)
    return dictionary_description(tag) if tag is not None else keyword


def _retrieve(settings: Settings) -> str:
    decoding = (
        "decoded when the receiver takes only an uncompressed transfer syntax"
        if settings.retrieve.decode_when_needed
        else "sent as stored only"
    )
    return f"""\
## 6 Retrieve

All levels of each model, with lists of UIDs at the level of the request. Objects are sent in the
transfer syntax in which they are stored, byte for byte; compressed ones are {decoding}. Values
of odd length are padded when the dataset's length is odd. In another transfer syntax the values
stay as they are stored: one that does not fit its VR goes as UN, and what cannot be converted fails
with its reason. Pending responses carry counters; a cancelled or partly failed retrieve ends with
the list of failed instances.
"""


def _statuses() -> str:
    rows = [(service, f"{code:04X}", text) for service, code, text in _STATUSES]
    return f"## 7 Statuses\n\n{_table(('service', 'status', 'meaning'), rows)}\n"


def _network(settings: Settings) -> str:
    return f"""\
## 8 Network interface

TCP/IP, listening on {", and ".join(_listeners(settings))}.
"""


def _listeners(settings: Settings) -> list[str]:
    server, tls = settings.server, settings.tls
    plain = [f"{server.host} port {server.port} without TLS"] if server.plain else []
    return [*plain, *([f"{server.host} port {tls.port} with TLS"] if tls.enabled else [])]


def _peers(settings: Settings) -> str:
    rows = [
        (title, f"{peer.host}:{peer.port}", _yes(peer.tls), ", ".join(peer.may) or "nothing")
        for title, peer in settings.peers.items()
    ]
    peers = _table(("AE title", "address", "TLS", "may"), rows) if rows else "None is configured."
    return f"""\
## 9 Configured peers

{peers}
"""


def _character_sets() -> str:
    return f"""\
## 10 Character sets

{_table(("Specific Character Set", "kind"), _CHARACTER_SETS)}

Query responses use the request's character set when their values can be written in it, and
ISO_IR 192 (UTF-8) otherwise; Specific Character Set is always sent.
"""


_TLS_PROFILES: Final = {
    "bcp195": "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
    "non-downgrading": "Modified BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
}


def _security(settings: Settings) -> str:
    listed = "and calling " if settings.server.require_known_peers else ""
    checked = (
        f"called {listed}AE titles are checked"
        if settings.server.require_called_ae_title
        else ("calling AE titles are checked" if listed else "AE titles are not checked")
    )
    return f"""\
## 11 Security

TLS follows the {_TLS_PROFILES[settings.tls.profile]} (PS3.15 annex B): versions 1.2 and 1.3.
The node {_listens_for_tls(settings)}, and connects with TLS to peers that are configured so.

Admission: {checked}. What a configured peer may do is limited by its `may`.

User identity negotiation: {_users(settings)}.
"""


def _listens_for_tls(settings: Settings) -> str:
    tls = settings.tls
    if not tls.enabled:
        return "listens without TLS"
    clients = {"none": "are not asked for", "optional": "are verified", "required": "are required"}
    return f"listens with TLS; certificates of clients {clients[tls.client_auth]}"


def _users(settings: Settings) -> str:
    identity = settings.identity
    if not identity.users:
        return "requests are accepted without a response"
    required = "required" if identity.required else "verified when requested"
    return f"user name, and user name with passcode, are {required}; other types are rejected"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = tuple(head)
    lines = [names, ("---",) * len(names), *(tuple(row) for row in rows)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
