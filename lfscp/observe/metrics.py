"""What a node counts: every counter and histogram, declared once; `/metrics` shows their sums.

Names follow Prometheus: base units, `_total` for counters. Code on a hot path looks up its count
once (`SERVED.of("C-ECHO", "0x0000")`) and adds to it later; see `counters`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from lfscp.observe.counters import OTHER, Board, Counter, Gauge, Histogram
from lfscp.observe.named_counts import NamedCounts

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
)
SHORT_SECONDS: Final = (0.0001, 0.00025, *SECONDS[:13])
SERVICES: Final = (
    *("C-ECHO", "C-STORE", "C-FIND", "C-MOVE", "C-GET"),
    *("N-CREATE", "N-SET", "N-GET", "N-ACTION", "N-EVENT-REPORT"),
    OTHER,
)
STATUSES: Final = (
    *("0x0000", "0xFE00", "0xB000"),
    *("0xA700", "0xA701", "0xA702", "0xA801", "0xA900", "0xC000", "0xC001"),
    *("0x0106", "0x0110", "0x0111", "0x0112", "0x0113", "0x0115", "0x0120", "0x0121"),
    *("0x0122", "0x0123", "0x0124", "0x0213"),
    OTHER,
)
REJECTIONS: Final = (
    "calling_ae_title_not_recognized",
    "called_ae_title_not_recognized",
    "application_context_not_supported",
    "protocol_version_not_supported",
    "user_identity_not_verified",
    "temporary_congestion",
    "local_limit_exceeded",
    "no_reason_given",
)
ENDS: Final = ("released", "aborted", "timed_out", "failed")
SUB_OPERATION_OUTCOMES: Final = ("completed", "warning", "failed")

BOARD: Final = Board()
_counter: Final = partial(Counter, BOARD)
_gauge: Final = partial(Gauge, BOARD)
_histogram: Final = partial(Histogram, BOARD)

PROCESS_STARTS: Final = _counter(
    "lfscp_process_starts_total", "Processes of the node that have started."
)
ACCEPTED: Final = _counter(
    "lfscp_associations_accepted_total", "Associations of peers that were accepted."
)
REJECTED: Final = _counter(
    "lfscp_associations_rejected_total",
    "Associations that were rejected, by the reason given (PS3.8 table 9-21).",
    reason=REJECTIONS,
)
ENDED: Final = _counter(
    "lfscp_associations_ended_total",
    "Connections that ended without a rejection, by the way they ended.",
    outcome=ENDS,
)
REFUSALS: Final = (
    "silent",
    "displaced",
    "left",
    "far_over_limit",
    "no_thread",
    "too_many_associations",
)
REFUSED: Final = _counter(
    "lfscp_connections_refused_total",
    "Connections that never became associations, by reason: silent for the ACSE timeout, displaced "
    "by newer ones, closed by the peer, closed since their address was far over a limit, or "
    "rejected since no thread could be started or too many associations ran.",
    reason=REFUSALS,
)
UNASSOCIATED: Final = _gauge(
    "lfscp_connections_unassociated",
    "Connections that have not asked for an association yet; they take no thread.",
)
SHORTAGES: Final = _counter(
    "lfscp_accept_failures_total",
    "Failures to accept a connection, since file descriptors or memory ran out.",
)
ASSOCIATION_SECONDS: Final = _histogram(
    "lfscp_association_duration_seconds",
    "How long accepted associations lasted.",
    (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0),
)
PROMOTION: Final = _histogram(
    "lfscp_pool_promotion_seconds",
    "From a connection taken by the leader until the next leader waits for one.",
    SHORT_SECONDS,
)
SERVED: Final = _histogram(
    "lfscp_request_duration_seconds",
    "From a request until the last byte of its answer, by service and status.",
    SECONDS,
    service=SERVICES,
    status=STATUSES,
)
OUT_OF_TURN: Final = _counter(
    "lfscp_messages_out_of_turn_total",
    "Second requests while one is served, and responses to no request: each ends its association.",
    kind=("request", "response"),
)
OVERSIZE_MESSAGES: Final = _counter(
    "lfscp_oversize_messages_total",
    "Messages other than C-STORE over budgets.request_mb: each ends its association.",
)
_RECEIVING: Final = ("C-STORE", "C-GET", "upload", "STOW-RS")
RECEIVED_INSTANCES: Final = _counter(
    "lfscp_received_instances_total",
    "Objects that were received and acknowledged, by service.",
    service=_RECEIVING,
)
RECEIVED_BYTES: Final = _counter(
    "lfscp_received_bytes_total", "Bytes of their datasets.", service=_RECEIVING
)
ROUTED_INSTANCES: Final = _counter(
    "lfscp_routed_instances_total",
    "Objects that routes have sent on, that a destination refused, and that were given up.",
    outcome=("sent", "failed", "given up"),
)
JOBS_OVER_BUDGET: Final = _counter(
    "lfscp_jobs_over_budget_total",
    "Jobs that were cut, or failed, since a peer sent more matches than budgets.job_mb.",
)
MATCHES: Final = _counter("lfscp_query_matches_total", "Matches that C-FIND answered.")
EXCESSIVE_IDENTIFIERS: Final = _counter(
    "lfscp_excessive_identifiers_total",
    "Queries and retrieves refused since their keys ask for too much.",
)
SUB_OPERATIONS: Final = _counter(
    "lfscp_sub_operations_total",
    "C-STORE sub-operations of retrieves, by outcome.",
    service=("C-MOVE", "C-GET", OTHER),
    outcome=SUB_OPERATION_OUTCOMES,
)
SENT_BYTES: Final = _counter(
    "lfscp_sent_bytes_total",
    "Bytes of stored datasets that retrieves have sent.",
    service=("C-MOVE", "C-GET", OTHER),
)
DECODING_MEMORY: Final = _gauge(
    "lfscp_decoding_memory_bytes",
    "Memory reserved for decoding objects for receivers; at most budgets.decoding_mb a process.",
)
SPOOLED: Final = _gauge(
    "lfscp_spooled_bytes",
    "Disk taken by converted objects until receivers have them; at most budgets.spool_mb a "
    "process.",
)
DECODING_WAITS: Final = _counter(
    "lfscp_decoding_waits_total",
    "Objects that waited for memory for decoding, or for disk space after it.",
    budget=("memory", "disk"),
)
DECODING_REFUSALS: Final = _counter(
    "lfscp_decoding_refusals_total",
    "Objects not sent, since they needed more than the budget, or waited for too long.",
    budget=("memory", "disk"),
)
INDEX_COMMIT: Final = _histogram(
    "lfscp_index_commit_seconds",
    "Transactions that added instances to the index: wait for their turn, inserts, commit.",
    SHORT_SECONDS,
)
INDEX_COMMIT_INSTANCES: Final = _histogram(
    "lfscp_index_commit_instances",
    "Instances that shared one of these transactions.",
    (1, 2, 4, 8, 16, 32, 64),
)
SYNC: Final = _histogram(
    "lfscp_object_sync_seconds",
    "Syncs to the disk of a received object's file, and of the folder that names it.",
    SHORT_SECONDS,
    of=("file", "folder"),
)
OBJECT_STORE_REQUESTS: Final = ("put", "get", "head", "list", "delete")
OBJECT_STORE_SECONDS: Final = _histogram(
    "lfscp_object_store_request_duration_seconds",
    "Requests to the S3 service of the objects, retries included; a get is one part.",
    SECONDS,
    request=OBJECT_STORE_REQUESTS,
)
OBJECT_STORE_FAILURES: Final = _counter(
    "lfscp_object_store_failures_total",
    "Requests to the S3 service that failed for good.",
    request=OBJECT_STORE_REQUESTS,
)
AUDIT_RECORDS: Final = _counter("lfscp_audit_records_total", "Records written to the audit trail.")
AUDIT_COUNTED: Final = _counter(
    "lfscp_audit_counted_records_total",
    "Records that were only counted, since too many equal ones came within a minute.",
)
AUDIT_FAILURES: Final = _counter(
    "lfscp_audit_failures_total", "Attempts to write a record that failed."
)
AUDIT_LOST: Final = _counter(
    "lfscp_audit_lost_records_total", "Records given up since too many waited for the disk."
)
AUDIT_FAILING: Final = _gauge(
    "lfscp_audit_failing", "Processes that cannot write to the audit trail now."
)
CLOCK_DOUBTED: Final = _gauge(
    "lfscp_clock_doubted", "Whether the clock is not trusted; studies and jobs go later then."
)
SCRUBBED_INSTANCES: Final = _counter(
    "lfscp_scrubbed_instances_total",
    "Stored objects that were read again in the background, by outcome.",
    outcome=("sound", "damaged"),
)
SCRUBBED_BYTES: Final = _counter(
    "lfscp_scrubbed_bytes_total", "Bytes of stored objects read again in the background."
)
RECYCLED_STUDIES: Final = _counter(
    "lfscp_recycled_studies_total",
    "Studies that retention deleted, by the limit they went for.",
    limit=("age", "studies", "bytes"),
)
RECYCLED_INSTANCES: Final = _counter(
    "lfscp_recycled_instances_total", "Instances of the studies that retention deleted."
)
COMMITTED_INSTANCES: Final = _counter(
    "lfscp_commitment_instances_total",
    "Instances that peers asked the node to commit to, by outcome.",
    outcome=("committed", "missing", "conflict", "damaged"),
)
COMMITMENT_REPORTS: Final = _counter(
    "lfscp_commitment_reports_total",
    "Reports of storage commitment, by the association that was to bring them, and outcome.",
    association=("same", "new"),
    outcome=("taken", "failed"),
)
FAILED_UNEXPECTEDLY: Final = _counter(
    "lfscp_unexpected_failures_total",
    "Requests that failed unexpectedly; the log says more.",
    service=SERVICES,
)
HTTP_REFUSALS: Final = (
    *("connections", "connections_of_address", "requests", "slow_request", "slow_reader"),
    *("bad_request", "bodies", "forms", "event_streams", "logins", "guesses", "tokens"),
    *("stopping", OTHER),
)
HTTP_REFUSED: Final = _counter(
    "lfscp_http_refused_total",
    "HTTP connections and requests that were refused or closed, by the limit they exceeded.",
    reason=HTTP_REFUSALS,
)
HTTP_CONNECTIONS: Final = _gauge(
    "lfscp_http_connections", "Connections to the page and the API that are open now."
)
REFUSED_PICTURES: Final = _counter(
    "lfscp_refused_pictures_total",
    "Pictures, and lists of elements, that were refused, by reason.",
    reason=("memory", "time", "process", "busy", "disk"),
)
WAITING_PICTURES: Final = _gauge(
    "lfscp_waiting_pictures", "Pictures that wait for a rendering process."
)
RENDERING_PROCESS_STARTS: Final = _counter(
    "lfscp_rendering_process_starts_total", "Rendering processes that have started."
)
RENDERING_PROCESS_FAILURES: Final = _counter(
    "lfscp_rendering_process_failures_total",
    "Rendering processes that ended in the middle of a picture, or did not start.",
)
HL7_TYPES: Final = ("ORM^O01", "OMI^O23", "ADT^A08", "ADT^A31", "ADT^A40", "ADT", OTHER)
HL7_MESSAGES: Final = _counter(
    "lfscp_hl7_messages_total",
    "HL7 messages, by type and answer: AA accepted, AE wrong content, AR not supported or failed.",
    type=HL7_TYPES,
    answer=("AA", "AE", "AR"),
)
HL7_CONNECTIONS: Final = _gauge("lfscp_hl7_connections", "Connections for HL7 that are open now.")
HL7_ENDED: Final = _counter(
    "lfscp_hl7_connections_ended_total",
    "Connections for HL7 that the node refused or ended, or that broke, by reason.",
    reason=("address", "connections", "idle", "slow", "size", "framing", "cut"),
)
PLUGIN_HOOKS: Final = (
    *("may_store", "may_find", "before_send"),
    *("startup", "stored", "study_complete", "found", "job_ended", "shutdown"),
    *("handlers", "routes", "route_action"),
)
PLUGIN_CALLS: Final = _counter(
    "lfscp_plugin_calls_total",
    "Calls of plug-ins, by hook and outcome: done, refused (a decision), failed, overdue, or lost "
    "since too many events waited.",
    hook=PLUGIN_HOOKS,
    outcome=("done", "refused", "failed", "overdue", "lost"),
)
# The same for each plug-in, whose names are not known here; the page shows them.
CALLS_OF_PLUGINS: Final = NamedCounts(
    BOARD, ("done", "refused", "failed", "overdue", "lost", "waiting")
)
PLUGIN_EVENTS: Final = _gauge(
    "lfscp_plugin_waiting_events", "Events that plug-ins are still to be told."
)
