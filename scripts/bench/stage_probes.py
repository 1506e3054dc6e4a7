"""Which functions of lfscp make up which stage of an operation; the rows of stages.py's tables."""

from __future__ import annotations

from typing import Final

from probes import Probe

_SOCKET: Final = "lfscp.upperlayer.connection.buffered:BufferedSocket"
_SENDING: Final = "lfscp.upperlayer.connection.sending:SendingSocket"
_PROVIDER: Final = "lfscp.upperlayer.engine.provider:InlineProvider"
_MESSAGES: Final = "lfscp.upperlayer.engine.messages:InlineMessages"
_SINK: Final = "lfscp.upperlayer.receiving.sink:DatasetSink"
_RECEIVED: Final = "lfscp.upperlayer.receiving.received:ReceivedDataset"
_ASSOCIATION: Final = "lfscp.upperlayer.engine.association:InlineAssociation"
_PENDING: Final = "lfscp.upperlayer.scp.find_responses:PendingResponses"
_ARCHIVE: Final = "lfscp.archive.archive:Archive"
_FILES: Final = "lfscp.archive.store.files:ObjectFiles"
_INDEX: Final = "lfscp.archive.index.index:Index"
_DATABASE: Final = "lfscp.archive.index.database"

# Of whatever has no probe of its own, the caller's stage has the time. First match wins the row.
READING: Final = (
    Probe("wait in recv()", _SOCKET, "_receive"),
    Probe("read PDUs, PDVs, command set", _PROVIDER, "read_pdu"),
)
ANSWERING: Final = (
    Probe("serve: events, handler, glue", _ASSOCIATION, "_serve_request"),
    Probe("answer: encode", "lfscp.upperlayer.wire.commands", "encode_response"),
    Probe("answer: encode", _MESSAGES, "send_encoded"),
    Probe("answer: send()", _SENDING, "send_all"),
)
STORE: Final = (
    *READING,
    Probe("sink: reserve, fill, give back", _SINK, "__init__"),
    Probe("sink: reserve, fill, give back", _SINK, "reserve"),
    Probe("sink: reserve, fill, give back", _SINK, "commit"),
    Probe("request object", _RECEIVED, "__init__"),
    Probe("sink: reserve, fill, give back", _RECEIVED, "take_back"),
    *ANSWERING,
    Probe("archive: glue", _ARCHIVE, "store"),
    Probe("header: read and check", "lfscp.archive.storing", "read_received"),
    Probe("is it there already? access()", _FILES, "may_exist"),
    Probe("digest", "lfscp.archive.storing", "digest_of_received"),
    Probe("Part 10 header", "lfscp.archive.storing", "part10_header"),
    Probe("write: open, writev, close", _FILES, "write_piece"),
    Probe("sync file", "os", "fdatasync"),
    Probe("sync folder, or file and name", "os", "fsync"),
    Probe("place: link", _FILES, "place"),
    Probe("index: glue", _INDEX, "add"),
    Probe(
        "index: share the commit",
        f"{_DATABASE}.group_commit:GroupCommit",
        "perform",
    ),
    Probe("index: take turns (flock)", "fcntl", "flock"),
    Probe("index: make the row", "lfscp.archive.index.index", "texts"),
    Probe("index: INSERT and its commit", f"{_DATABASE}.statements:Statement", "run"),
    Probe("remove the piece's name", _FILES, "discard"),
    Probe("log line", "lfscp.services.storage.c_store", "performed"),
)
ECHO: Final = (
    *READING,
    *ANSWERING,
    Probe("log line", "lfscp.services.verification", "performed"),
)
FIND: Final = (
    *READING,
    *ANSWERING,
    Probe(
        "request: decode identifier, make query",
        "lfscp.services.query_retrieve.c_find:ArchiveFind",
        "_read_request",
    ),
    Probe("index: fetch rows", _ARCHIVE, "find", gives="iterator"),
    Probe("encode identifier", "lfscp.archive.query.find", "response_encoder", gives="function"),
    Probe("look for C-CANCEL (recv)", _PROVIDER, "look"),
    Probe("answer: encode", _PENDING, "add"),
    Probe("answer: encode", _PENDING, "send"),
    Probe("log line", "lfscp.services.find_request", "performed"),
)
GET: Final = (
    Probe("wait for the receiver in recv()", _SOCKET, "_receive"),
    Probe("read PDUs, PDVs, command set", _PROVIDER, "read_pdu"),
    *ANSWERING,
    Probe("select the instances", _ARCHIVE, "select"),
    Probe(
        "choose context, look for the file",
        "lfscp.services.sending.sub_operations:Sender",
        "attempt",
    ),
    Probe("open, command set, fragments", "lfscp.services.sending.sub_operations", "send_stored"),
    Probe("send: sendfile()", _SENDING, "send_file"),
    Probe("look for C-CANCEL (recv)", _PROVIDER, "look"),
    Probe("log line", "lfscp.services.query_retrieve.c_move_c_get", "performed"),
)
