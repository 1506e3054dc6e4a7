"""The sections server and pool: where the node listens, whom it lets in, and its threads."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
)

from lfscp.config.access import Network
from lfscp.config.checks import (
    AETitle,
    Amount,
    Bool,
    Count,
    Int,
    ListenPort,
    ListOf,
    Seconds,
)
from lfscp.config.declaration import Section, setting


class ServerSection(Section):
    """The DICOM listener and its associations."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - a PACS serves its network; the administrator narrows it
        "Address to listen on. 127.0.0.1 serves this machine only, :: serves IPv6 too.",
        flag="--host",
        min_length=1,
    )
    port: ListenPort = setting(
        11112,
        "TCP port to listen on. 0 takes any free port, and the log says which.",
        flag="--port",
    )
    ae_title: AETitle = setting("LFSCP", "AE title of this node.", flag="--aet")
    ae_titles: ListOf[AETitle] = setting(
        (),
        "Further AE titles by which this node may be called, for devices that cannot use one "
        "title for two services.",
        live=True,
    )
    plain: Bool = setting(
        True,
        "Listen without TLS on server.port. With false, only the port of TLS is open (tls.port).",
    )
    require_called_ae_title: Bool = setting(
        False,
        "Reject associations that call another AE title than ae_title and ae_titles.",
        live=True,
    )
    require_known_peers: Bool = setting(
        False,
        "Reject calling AE titles that are not in [peers]. With false, an AE title that is not "
        "there may do everything.",
        live=True,
    )
    require_peer_addresses: Bool = setting(
        False,
        "Reject an AE title of [peers] that calls from another address than its host and "
        "addresses.",
        live=True,
    )
    max_pdu_bytes: Int = setting(
        131072,
        "Largest P-DATA-TF PDU that a peer may send, in bytes. 0 means no limit.",
        ge=0,
        le=0xFFFFFFFF,
    )
    proxy_protocol: ListOf[Network] = setting(
        (),
        "Addresses and networks of load balancers, which name the peer with PROXY protocol "
        "version 2. If this is set, nobody else may connect.",
    )
    backlog: Int = setting(
        1024,
        "How many connections the kernel queues while all threads of the pool are busy.",
        ge=1,
        le=65535,
    )
    acse_timeout_s: Seconds = setting(
        30.0,
        "Longest wait, in seconds, for a TLS handshake, for an association request, or for the "
        "answer to this node's own association request.",
        live=True,
    )
    dimse_timeout_s: Seconds = setting(
        30.0, "Longest wait for the answer to a message that this node sent, in seconds.", live=True
    )
    network_timeout_s: Seconds = setting(
        60.0, "Longest silence on an association, in seconds. Then the node aborts it.", live=True
    )
    min_receive_rate: Count = setting(
        1000,
        "Lowest rate at which a peer may send or take a message, in bytes per second. The node"
        " measures it once the message has lasted network_timeout_s, or once it has waited for "
        "the peer that long. It aborts a slower association. 0 means no limit.",
        live=True,
    )
    drain_timeout_s: Annotated[Amount, Field(le=86400)] = setting(
        30.0,
        "How long the node may take to end after SIGTERM, in seconds. Shortly before that, it "
        "aborts the associations that still run.",
    )
    max_associations: Count = setting(
        0, "Most associations at once. Further ones are rejected. 0 means no limit.", live=True
    )
    max_associations_per_address: Count = setting(
        100,
        "Most associations from one address at once. Further ones are rejected. A peer of "
        "[peers] that calls from its own address has this limit for itself. 0 means no limit.",
        live=True,
    )
    max_connections_per_minute: Count = setting(
        0,
        "Most connections that one address may open in a minute. Further ones are rejected. 0 "
        "means no limit.",
        live=True,
    )


class Pool(Section):
    """The leader/follower thread pool."""

    max_running: Count = setting(
        0,
        "Most associations that a process serves at once. Further connections wait. 0 means no "
        "limit.",
        flag="--max-running",
        live=True,
    )
    max_waiting: Int = setting(
        -1,
        "Most idle threads that a process keeps (followers). -1 means no limit.",
        flag="--max-waiting",
        live=True,
        ge=-1,
    )
    max_idle_s: Amount = setting(
        30.0, "How long an idle thread is kept, in seconds. 0 keeps it for ever.", live=True
    )
    threads: Int = setting(
        1, "Threads at the start. The pool grows by itself.", flag="--threads", ge=1, le=4096
    )
    one_processor: Bool = setting(
        True,
        "Bind the threads of a process to one CPU while four associations or more are busy. "
        "Python runs one thread at a time anyway, and on one CPU that costs less.",
    )
    workers: Int = setting(
        0,
        "Worker processes. Each has a thread pool of its own, with all limits of [pool]. 0 "
        "means one process for every two CPUs.",
        flag="--workers",
        ge=0,
        le=256,
    )
