"""Every setting of a node, declared once: name, type, default, unit, check, help, flag.

The file config/lfscp.toml, the table in README and the help of `lfscp serve` are made from these
declarations (see `describe`); where values come from and how they are merged is in `sources`.
Units stand in the names. Settings are frozen: a running node is never reconfigured behind its back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lfscp.config.access import TLS, Identity, Network, Peer
from lfscp.config.audit import Audit
from lfscp.config.budgets import Budgets
from lfscp.config.checks import (
    AETitle,
    Amount,
    Bool,
    Count,
    Folder,
    Int,
    Level,
    ListenPort,
    Seconds,
    SOPClassUID,
    as_tuple,
    check_endpoint,
    check_index_url,
    check_objects_url,
    no_title_twice,
)
from lfscp.config.declaration import Section, setting
from lfscp.config.web import Web


class Server(Section):
    """The DICOM listener and its associations."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - a PACS serves its network; the administrator narrows it
        "Address to listen on; 127.0.0.1 for this machine only, :: for IPv6 too.",
        flag="--host",
        min_length=1,
    )
    port: ListenPort = setting(
        11112, "TCP port to listen on; 0 takes any free port and the log says which.", flag="--port"
    )
    ae_title: AETitle = setting("LFSCP", "AE title of this node.", flag="--aet")
    plain: Bool = setting(True, "Listen on port; false leaves TLS alone (tls.port).")
    require_called_ae_title: Bool = setting(
        False, "Reject associations that call another AE title than ae_title.", live=True
    )
    require_known_peers: Bool = setting(
        False,
        "Reject calling AE titles that are not in [peers]; otherwise they may do everything.",
        live=True,
    )
    require_peer_addresses: Bool = setting(
        False,
        "Reject AE titles of [peers] that come from elsewhere than their host and addresses.",
        live=True,
    )
    max_pdu_bytes: Int = setting(
        131072,
        "Largest P-DATA-TF PDU that peers may send, in bytes; 0 is no limit.",
        ge=0,
        le=0xFFFFFFFF,
    )
    proxy_protocol: Annotated[tuple[Network, ...], BeforeValidator(as_tuple)] = setting(
        (),
        "Addresses and networks of load balancers that say with PROXY protocol version 2 whom they "
        "speak for; when given, nobody else may connect.",
    )
    backlog: Int = setting(
        1024, "Connections that the kernel queues while all pool threads are busy.", ge=1, le=65535
    )
    acse_timeout_s: Seconds = setting(
        30.0,
        "Longest wait for a TLS handshake, for an association request, or for the answer to ours, "
        "in seconds.",
        live=True,
    )
    dimse_timeout_s: Seconds = setting(
        30.0, "Longest wait for the answer to a message that this node sent, in seconds.", live=True
    )
    network_timeout_s: Seconds = setting(
        60.0, "Longest silence on an association before it is aborted, in seconds.", live=True
    )
    min_receive_rate: Count = setting(
        1000,
        "Slowest pace at which a peer may send or take a message, in bytes a second. It counts "
        "once the message has lasted, or the node has waited for the peer, for network_timeout_s; "
        "a slower association is aborted. 0 is no limit.",
        live=True,
    )
    drain_timeout_s: Annotated[float, Strict(), Field(ge=0, le=86400, allow_inf_nan=False)] = (
        setting(
            30.0,
            "At SIGTERM, how long the node may take to end, in seconds. Shortly before that it "
            "aborts the associations that still run.",
        )
    )
    max_associations: Count = setting(
        0, "Most associations at once, further ones are rejected; 0 is no limit.", live=True
    )
    max_associations_per_address: Count = setting(
        100,
        "Most associations from one address at once, further ones are rejected. Each of [peers] "
        "that comes from its own address has this limit for itself. 0 is no limit.",
        live=True,
    )
    max_connections_per_minute: Count = setting(
        0,
        "Most connections that one address may open in a minute, further ones are rejected; 0 is "
        "no limit.",
        live=True,
    )


class Pool(Section):
    """The leader/follower thread pool."""

    max_running: Count = setting(
        0,
        "Most associations served at once, further connections wait; 0 is no limit.",
        flag="--max-running",
        live=True,
    )
    max_waiting: Int = setting(
        -1,
        "Most idle threads kept as followers; -1 is no limit.",
        flag="--max-waiting",
        live=True,
        ge=-1,
    )
    max_idle_s: Amount = setting(
        30.0, "How long an idle thread is kept, in seconds; 0 is for ever.", live=True
    )
    threads: Int = setting(
        1, "Threads at start; the pool grows by itself.", flag="--threads", ge=1, le=4096
    )
    one_processor: Bool = setting(
        True,
        "Bind the threads of a process to one processor while four associations or more are busy: "
        "they take turns with Python's lock anyway, and so at less cost. Off by itself while most "
        "of the time is the kernel's.",
    )
    workers: Int = setting(
        0,
        "Processes, each with a pool and the limits of this section; 0 is one per two CPUs.",
        flag="--workers",
        ge=0,
        le=256,
    )


class Index(Section):
    """The index of patients, studies, series and instances."""

    url: Annotated[str, AfterValidator(check_index_url)] = setting(
        "",
        "SQLAlchemy URL of the index; empty is SQLite in data_dir. "
        "postgresql+psycopg://user@host/database is for several nodes.",
    )
    connections: Int = setting(
        10,
        "Most connections of one process to PostgreSQL for storing, as many for queries and as "
        "many for the rest.",
        ge=1,
        le=1000,
    )
    timeout_s: Seconds = setting(
        20.0,
        "How long a store waits for PostgreSQL when it is away, or for another program that has "
        "locked SQLite's file, in seconds, before the peer is told to send again.",
    )


class Objects(Section):
    """The stored DICOM objects."""

    url: Annotated[str, AfterValidator(check_objects_url)] = setting(
        "",
        'Where objects are stored: "file:///path", also a folder that nodes share, or '
        '"s3://bucket/prefix"; empty is data_dir/objects.',
    )
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = setting(
        "",
        "URL of the S3 service; empty is AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, then AWS itself.",
    )
    region: str = setting(
        "", "Region of the bucket; empty is AWS_REGION, AWS_DEFAULT_REGION, then us-east-1."
    )
    allow_http: Bool = setting(
        False, "Talk to an S3 service without TLS; the endpoint's URL begins with http:// then."
    )
    timeout_s: Seconds = setting(
        10.0,
        "Longest wait for the answer to one request to the S3 service, of 16 megabytes at most, "
        "in seconds.",
    )
    cache_mb: Int = setting(
        10_000,
        "Disk space for copies of the S3 service's objects in data_dir/cache, in megabytes; the "
        "longest unread leave first.",
        ge=16,
    )
    digest: Literal["xxh3_128", "sha256", "none"] = setting(
        "xxh3_128",
        "Digest kept of each object: xxh3_128 finds accidents, sha256 forgery too and costs more.",
    )
    scrub_mb_s: Amount = setting(
        1.0,
        "How fast the stored objects are read again in the background and held against their "
        "digests, in megabytes per second; 0 turns it off.",
    )

    @model_validator(mode="after")
    def _http_is_wanted(self) -> Self:
        if self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("allow_http = true beside an endpoint without TLS, or https://")
        return self

    @property
    def root(self) -> Path | None:
        """The folder that `url` names; None means the one in data_dir, or a bucket."""
        return Path(unquote(urlsplit(self.url).path)) if self.url and not self.is_bucket else None

    @property
    def is_bucket(self) -> bool:
        """Whether `url` names a bucket."""
        return self.url.startswith("s3:")


class Storage(Section):
    """C-STORE."""

    accept_unknown_sop_classes: Bool = setting(
        True,
        "Also store objects of SOP classes that are neither standard nor in private_sop_classes; "
        "the same for C-STORE, upload, import and what is retrieved from peers.",
    )
    private_sop_classes: Annotated[tuple[SOPClassUID, ...], BeforeValidator(as_tuple)] = setting(
        (), "UIDs of further SOP classes to accept for storage."
    )
    max_object_mb: Count = setting(
        0,
        "Largest object that is stored, in megabytes: larger ones are answered with 0xA700 and "
        "not kept; 0 is no limit.",
        live=True,
    )
    reserve_mb: Int = setting(
        -1,
        "Disk space to leave free, in megabytes: below it stores are answered with 0xA700. "
        "-1 is 512, or a hundredth of a disk that is small; 0 is none.",
        ge=-1,
    )


class Retention(Section):
    """What goes by itself: whole studies, the one first that was received the longest ago."""

    max_gb: Amount = setting(
        0.0, "Most that the objects may take up, in gigabytes; 0 is no limit of it."
    )
    max_age_days: Amount = setting(
        0.0, "How long a study is kept after its last instance came, in days; 0 is for ever."
    )
    max_studies: Count = setting(0, "Most studies kept; 0 is no limit of it.")
    quiet_s: Seconds = setting(
        300.0, "A study that received something so recently is not taken, in seconds."
    )
    interval_s: Seconds = setting(60.0, "How often the limits are looked at, in seconds.")

    @property
    def is_on(self) -> bool:
        """Whether there is any limit."""
        return bool(self.max_gb or self.max_age_days or self.max_studies)


class Query(Section):
    """C-FIND."""

    max_results: Count = setting(
        0,
        "Most matches answered to one query, the peer is told of the cut; 0 is no limit.",
        live=True,
    )


class Retrieve(Section):
    """C-MOVE and C-GET."""

    decode_when_needed: Bool = setting(
        True, "Decode compressed objects for receivers that take only uncompressed ones."
    )


class Jobs(Section):
    """What this node asks of others: queries, retrieves, sends, kept until they are done."""

    max_active: Int = setting(
        10, "Most jobs that run at once; the others sleep in the order they came.", ge=1, le=1000
    )
    max_active_of_all: Count = setting(
        0, "Most jobs that run at once on all nodes that share the index; 0 is no limit."
    )
    lease_s: Seconds = setting(
        30.0,
        "When a node has not been heard of for so long, others that share the index run its jobs.",
    )
    per_peer: Count = setting(4, "Most of them that talk to one peer; 0 is no limit of its own.")
    keep_days: Annotated[float, Strict(), Field(ge=0, le=36500, allow_inf_nan=False)] = setting(
        1.0, "How long ended jobs are kept with their outcome, in days."
    )
    retries: Count = setting(5, "How often a retrieve or send is tried again when a peer is down.")
    retry_delay_s: Seconds = setting(
        10.0, "Wait before the first of these retries, in seconds; it doubles up to one hour."
    )
    max_matches: Int = setting(
        10000, "Most matches kept of one query to a peer; the query is cancelled there.", ge=1
    )


class Logging(Section):
    """The ordinary log, on standard error. It names no patient unless you say so."""

    format: Literal["console", "json"] = setting(
        "console", "Lines for people, or one JSON object per line.", flag="--log-format"
    )
    level: Level = setting(
        "info",
        "Lowest level written: debug, info, warning, error, critical.",
        flag="--log-level",
        live=True,
    )
    patient_identifiers: Bool = setting(
        False, "Write Patient IDs and the keys of queries into the ordinary log too."
    )


class Settings(Section):
    """The whole configuration of one node."""

    data_dir: Folder = setting(
        lambda: default_data_dir(os.environ),
        "Folder of index and objects; it is created. Only one node may use it at a time.",
        flag="--data-dir",
        shown="~/.local/share/lfscp",
    )
    durability: Literal["full", "os"] = setting(
        "full",
        "full: a stored object is on the disk before it is acknowledged. "
        "os: the operating system writes when it likes; a power cut loses objects.",
    )
    duplicates: Literal["keep", "replace", "reject"] = setting(
        "keep", "What happens to an instance that is stored again with other content."
    )
    server: Server = Server()
    tls: TLS = Field(TLS(), validate_default=True)
    identity: Identity = Identity()
    pool: Pool = Pool()
    index: Index = Index()
    objects: Objects = Objects()
    storage: Storage = Storage()
    retention: Retention = Retention()
    query: Query = Query()
    retrieve: Retrieve = Retrieve()
    web: Web = Web()
    jobs: Jobs = Jobs()
    logging: Logging = Logging()
    audit: Audit = Audit()
    budgets: Budgets = Budgets()
    peers: Annotated[dict[AETitle, Peer], BeforeValidator(no_title_twice)] = Field(
        default_factory=dict
    )

    @field_validator("tls")
    @classmethod
    def _listens_at_all(cls, tls: TLS, info: ValidationInfo) -> TLS:
        server = info.data.get("server")  # absent when it is wrong itself
        if isinstance(server, Server) and not server.plain and not tls.enabled:
            raise ValueError("enabled, since server.plain is false")
        return tls


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """The data folder when nobody names one: the user's, by the XDG convention."""
    base = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "lfscp"
