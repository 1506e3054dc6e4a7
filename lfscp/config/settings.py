"""Declares every setting of a node once: name, type, default, unit, check, help, flag.

config/lfscp.toml, config/settings.md and the help of `lfscp serve` are made from it (see
`describe`); `sources` reads and merges the values. Units are in the names. Settings are frozen.
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
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lfscp.config.access import TLS, Identity, PeerSettings
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
    ListOf,
    Seconds,
    SOPClassUID,
    check_endpoint,
    check_index_url,
    check_objects_url,
    no_title_twice,
)
from lfscp.config.coercion import CoercionSection
from lfscp.config.declaration import Section, setting
from lfscp.config.dicomweb import DICOMweb
from lfscp.config.ohif import OHIF
from lfscp.config.plugins import PluginsSection
from lfscp.config.routes import RouteSettings, no_name_twice
from lfscp.config.server import Pool, ServerSection
from lfscp.config.web import WebSection
from lfscp.config.workflow import Commitment, Worklist


class IndexSection(Section):
    """The index of patients, studies, series and instances."""

    url: Annotated[str, AfterValidator(check_index_url)] = setting(
        "",
        "SQLAlchemy URL of the index. Empty means SQLite in data_dir. Several nodes share "
        "postgresql+psycopg://user@host/database.",
    )
    connections: Int = setting(
        10,
        "Most connections that one process opens to PostgreSQL for stores. It opens as many for"
        " queries, as many for the rest, and one for stores that it commits together.",
        ge=1,
        le=1000,
    )
    timeout_s: Seconds = setting(
        20.0,
        "How long a store waits, in seconds, while PostgreSQL is away or another program has "
        "locked SQLite's file. Then the peer gets 0xA700 and must send again.",
    )


class Objects(Section):
    """The stored DICOM objects."""

    url: Annotated[str, AfterValidator(check_objects_url)] = setting(
        "",
        'Where objects are stored: "file:///path" is a folder, which nodes may share; '
        '"s3://bucket/prefix" is a bucket. Empty means data_dir/objects.',
    )
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = setting(
        "",
        "URL of the S3 service. Empty means AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL, else "
        "AWS itself.",
    )
    region: str = setting(
        "", "Region of the bucket. Empty means AWS_REGION, else AWS_DEFAULT_REGION, else us-east-1."
    )
    allow_http: Bool = setting(False, "Allow an endpoint without TLS. Its URL begins with http://.")
    timeout_s: Seconds = setting(
        10.0,
        "Longest wait for the answer to one request to the S3 service, in seconds. A request "
        "carries 16 megabytes at most.",
    )
    cache_mb: Int = setting(
        10_000,
        "Disk space in data_dir/cache for copies of the S3 service's objects, in megabytes. "
        "Copies that nobody has read for the longest time go first.",
        ge=16,
    )
    digest: Literal["xxh3_128", "sha256", "none"] = setting(
        "xxh3_128",
        "Digest that is kept of each object. xxh3_128 finds damage by accident. sha256 also "
        "finds forgery, and takes more time. none keeps no digest.",
    )
    scrub_mb_s: Amount = setting(
        1.0,
        "How fast the node reads stored objects again in the background and compares their "
        "digests, in megabytes per second. 0 turns it off.",
    )

    @model_validator(mode="after")
    def _http_is_wanted(self) -> Self:
        if self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("set allow_http = true for an endpoint without TLS, or use https://")
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
    """Storing objects: by C-STORE, upload, import, or retrieved from a peer."""

    accept_unknown_sop_classes: Bool = setting(
        True,
        "Also store objects whose SOP class is neither standard nor in private_sop_classes. "
        "This holds for C-STORE, upload, import and what is retrieved from peers.",
    )
    private_sop_classes: ListOf[SOPClassUID] = setting((), "UIDs of further SOP classes to store.")
    max_object_mb: Count = setting(
        0,
        "Largest object that is stored, in megabytes. A larger one is answered with 0xA700 and "
        "not kept. 0 means no limit.",
        live=True,
    )
    reserve_mb: Int = setting(
        -1,
        "Disk space to leave free, in megabytes. While less is free, stores are answered with "
        "0xA700. -1 means 512, or a hundredth of the disk if that is less. 0 means none.",
        ge=-1,
    )


class RetentionSection(Section):
    """Automatic deletion of whole studies. The one that received nothing for longest goes first."""

    max_gb: Amount = setting(0.0, "Most disk space for objects, in gigabytes. 0 means no limit.")
    max_age_days: Amount = setting(
        0.0, "How long a study is kept after its last object came, in days. 0 keeps it for ever."
    )
    max_studies: Count = setting(0, "Most studies that are kept. 0 means no limit.")
    quiet_s: Seconds = setting(
        300.0, "A study is not deleted within this time after its last object came, in seconds."
    )
    interval_s: Seconds = setting(60.0, "How often the node looks at these limits, in seconds.")


class QuerySection(Section):
    """Answering C-FIND."""

    max_results: Count = setting(
        0,
        "Most matches that one query gets. The node tells the peer that some are missing. 0 "
        "means no limit.",
        live=True,
    )
    fuzzy_names: Bool = setting(
        False,
        "Match names of every C-FIND without regard to accents, so that muller and mueller find "
        "Müller. Otherwise the node does so for peers that negotiate fuzzy matching.",
        live=True,
    )


class Retrieve(Section):
    """Answering C-MOVE and C-GET."""

    decode_when_needed: Bool = setting(
        True, "Decode compressed objects for receivers that take only uncompressed ones."
    )


class Jobs(Section):
    """Queries, retrieves and sends that this node asks of others. A restart does not lose them."""

    max_active: Int = setting(
        10,
        "Most jobs that run at once. The others wait, in the order in which they came.",
        ge=1,
        le=1000,
    )
    max_active_of_all: Count = setting(
        0, "Most jobs that run at once on all nodes that share the index. 0 means no limit."
    )
    lease_s: Seconds = setting(
        30.0,
        "If a node gives no sign of life for this long, in seconds, other nodes that share the "
        "index run its jobs.",
    )
    per_peer: Count = setting(
        4, "Most running jobs that talk to one peer. 0 means no limit for a peer."
    )
    keep_days: Annotated[Amount, Field(le=36500)] = setting(
        1.0, "How long a job that has ended is kept with its outcome, in days."
    )
    retries: Count = setting(
        5, "How often a retrieve or a send is tried again while the peer is down."
    )
    retry_delay_s: Seconds = setting(
        10.0,
        "Wait before the first of these retries, in seconds. It doubles each time, up to one hour.",
    )
    max_matches: Int = setting(
        10000,
        "Most matches that are kept of one query to a peer. Then the node cancels the query there.",
        ge=1,
    )


class Logging(Section):
    """The ordinary log, on standard error. It names no patient unless you say so."""

    format: Literal["console", "json"] = setting(
        "console", "console: lines for people. json: one JSON object per line.", flag="--log-format"
    )
    level: Level = setting(
        "info",
        "Lowest level that is written: debug, info, warning, error or critical.",
        flag="--log-level",
        live=True,
    )
    patient_identifiers: Bool = setting(
        False, "Also write Patient IDs and the keys of queries into the ordinary log."
    )
    kept_mb: Count = setting(
        4,
        "Size of the file recent.log in data_dir, which keeps the newest warnings and errors for "
        "the page, in megabytes. 0 keeps none.",
    )


def _default_data_dir() -> Path:
    """The data folder of the user, by the XDG convention."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "lfscp"


class Origins(dict[tuple[str, ...], str]):
    """Where the values of settings came from; it makes no settings different."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    __hash__ = None


class Settings(Section):
    """The whole configuration of one node."""

    _origins: Origins = PrivateAttr(default_factory=Origins)

    data_dir: Folder = setting(
        _default_data_dir,
        "Folder of the index and the objects. The node creates it. Only one node may use it at "
        "a time.",
        flag="--data-dir",
        shown="~/.local/share/lfscp",
    )
    durability: Literal["full", "os"] = setting(
        "full",
        "full: a stored object is on the disk before it is acknowledged. os: the operating "
        "system writes it later, and a power cut can lose acknowledged objects.",
    )
    duplicates: Literal["keep", "replace", "reject"] = setting(
        "keep",
        "What happens when a stored instance comes again with other content. keep: the first "
        "one stays, and the answer is success. replace: the new one takes its place. reject: "
        "the first one stays, and the answer is 0xA700.",
    )
    server: ServerSection = ServerSection()
    tls: TLS = Field(TLS(), validate_default=True)
    identity: Identity = Identity()
    pool: Pool = Pool()
    index: IndexSection = IndexSection()
    objects: Objects = Objects()
    storage: Storage = Storage()
    retention: RetentionSection = RetentionSection()
    query: QuerySection = QuerySection()
    retrieve: Retrieve = Retrieve()
    worklist: Worklist = Worklist()
    commitment: Commitment = Commitment()
    web: WebSection = WebSection()
    dicomweb: DICOMweb = DICOMweb()
    ohif: OHIF = OHIF()
    jobs: Jobs = Jobs()
    logging: Logging = Logging()
    audit: Audit = Audit()
    plugins: PluginsSection = PluginsSection()
    budgets: Budgets = Budgets()
    coercion: ListOf[CoercionSection] = ()
    peers: Annotated[dict[AETitle, PeerSettings], BeforeValidator(no_title_twice)] = Field(
        default_factory=dict
    )
    route: Annotated[ListOf[RouteSettings], BeforeValidator(no_name_twice)] = ()

    @field_validator("ohif")
    @classmethod
    def _has_its_own_port(cls, ohif: OHIF, info: ValidationInfo) -> OHIF:
        web = info.data.get("web")  # absent when it is wrong itself
        is_chosen = ohif.enabled and ohif.port and "port" in ohif.model_fields_set
        if isinstance(web, WebSection) and web.enabled and is_chosen and ohif.port == web.port:
            raise ValueError(f"set another port than {ohif.port}, which is web.port")
        return ohif

    @field_validator("tls")
    @classmethod
    def _listens_at_all(cls, tls: TLS, info: ValidationInfo) -> TLS:
        server = info.data.get("server")  # absent when it is wrong itself
        if isinstance(server, ServerSection) and not server.plain and not tls.enabled:
            raise ValueError("set enabled, since server.plain is false")
        return tls

    @property
    def origins(self) -> Origins:
        """The source of each value that is not a default, by its path."""
        return self._origins

    def with_origins(self, origins: Mapping[tuple[str, ...], str]) -> Settings:
        """The same settings, with the sources of their values."""
        made = self.model_copy()
        made._origins = Origins(origins)  # noqa: SLF001 - its own
        return made
