"""Our DICOMweb client and servers that send what is wrong, too much, too slowly, or without end."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.store.received_objects import Received, StoredInstance
from lfscp.scu.dicomweb import find as searching
from lfscp.scu.dicomweb.echo import echo
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.retrieve import get
from lfscp.scu.dicomweb.send import send
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind, TooManyMatchesError
from lfscp.scu.identifiers import identifier
from lfscp.scu.parts import RetrieveResult
from lfscp.scu.send import SendResult, objects_in
from tests.support.certificates import Authority
from tests.support.retrieved_objects import as_file
from tests.support.scripted_http import (
    END,
    PARTS,
    Asked,
    answer,
    head,
    part,
    scripted_http,
)
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice

KEYS = identifier({"StudyInstanceUID": "", "PatientName": ""}, "STUDY")
STUDY = identifier({"StudyInstanceUID": CT_STUDY}, "STUDY")
CT = as_file(ct_slice(1, 3))
BLOCK = b"A" * 65536


def peer_of(asked: Asked, **fields: Any) -> DICOMwebPeer:
    return DICOMwebPeer(asked.url, **{"timeout_s": 20, **fields})


def found(*uids: str) -> bytes:
    """An answer with these studies."""
    documents = [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return answer(json.dumps(documents))


NONE = answer(b"", 204, "")


def ask(peer: DICOMwebPeer, **options: Any) -> list[str]:
    return [str(each.get("StudyInstanceUID", "")) for each in find(peer, KEYS, **options)]


class Taken:
    """What a retrieve brought."""

    def __init__(self) -> None:
        self.uids: list[str] = []
        self.refused: list[tuple[str, str]] = []

    def get(self, peer: DICOMwebPeer, **options: Any) -> RetrieveResult:
        def take(received: Received) -> int:
            self.uids.append(received.sop_instance_uid)
            return 0

        return get(
            peer,
            STUDY,
            on_object=take,
            on_refused=lambda uid, why: self.refused.append((uid, why)),
            **options,
        )


def retrieve(peer: DICOMwebPeer) -> RetrieveResult:
    return Taken().get(peer)


@pytest.fixture
def instances(tmp_path: Path) -> list[StoredInstance]:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.dcm").write_bytes(as_file(ct_slice(number, 3, 32)))
    return objects_in([tmp_path], on_other=lambda file, why: pytest.fail(f"{file}: {why}"))


def refusal(asked: Asked, act: Callable[[DICOMwebPeer], object], **fields: Any) -> PeerError:
    with pytest.raises(PeerError) as error:
        act(peer_of(asked, **fields))
    return error.value


def peak_of(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def endless(begin: bytes, piece: bytes) -> Callable[[socket.socket, bytes], None]:
    def script(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(piece)

    return script


# --- how much ---


@pytest.mark.parametrize(
    ("script", "act", "reason"),
    [
        (endless(head() + b'[{"a": "', BLOCK), ask, "a match of more than 1.04858 MB"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), ask, "no valid HTTP"),
        (endless(b"HTTP/1.1 200 ", BLOCK), ask, "no valid HTTP"),
        (endless(head(PARTS), BLOCK), retrieve, "boundary of Content-Type is not where"),
        (endless(head(PARTS) + b"--XX\r\n", b"X: y\r\n" * 1000), retrieve, "a head of more than"),
        (endless(head(PARTS), part(b"")), retrieve, "keeps sending objects"),
        (endless(head(PARTS), part(CT[:2000])), retrieve, "keeps sending objects"),
    ],
    ids=["match", "head", "line", "preamble", "part's head", "parts", "broken objects"],
)
def test_an_answer_without_end_costs_no_memory(
    script: Any,
    act: Callable[[DICOMwebPeer], object],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lfscp.scu.taking._MAX_REFUSED", 50)
    with scripted_http(script) as asked:
        peak = peak_of(lambda: _expect(asked, act, reason))
    assert peak < 16 << 20


def _expect(asked: Asked, act: Callable[[DICOMwebPeer], object], reason: str) -> None:
    assert reason in refusal(asked, act).reason


def test_matches_without_end_have_the_callers_limit() -> None:
    piece = b'{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}},' * 100
    with scripted_http(endless(head() + b"[", piece)) as asked, pytest.raises(TooManyMatchesError):
        ask(peer_of(asked), max_bytes=500_000)


def test_an_object_without_end_stops_at_its_limit_and_the_next_is_taken(tmp_path: Path) -> None:
    body = part(CT + bytes(9_000_000)) + part(CT) + END
    with scripted_http(answer(body, content_type=PARTS)) as asked:
        taken = Taken()
        result = taken.get(peer_of(asked), max_object_bytes=6_000_000, spool_dir=tmp_path)
    assert taken.refused == [("object 1", "it is larger than 6 MB")]
    assert (result.completed, result.failed) == (1, 1)
    assert not list(tmp_path.iterdir())


def test_a_compressed_answer_is_refused() -> None:
    bomb = gzip.compress(b"[" + b" " * 10_000_000 + b"]")
    script = answer(bomb, Content_Encoding="gzip")
    with scripted_http(script) as asked:
        assert "compresses its answer" in refusal(asked, ask).reason
        assert "Accept-Encoding: identity" in asked.heads[0]


def test_a_refusal_with_endless_words_is_a_refusal() -> None:
    begin = b"HTTP/1.1 503 X\r\nContent-Type: text/plain\r\n\r\n"
    with scripted_http(endless(begin, BLOCK)) as asked:
        error = refusal(asked, ask)
    assert (error.reason, error.passing) == ("refused the query (HTTP 503)", True)


# --- how slowly ---


def dripping(begin: bytes) -> Callable[[socket.socket, bytes], None]:
    def script(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(begin)
        while True:
            time.sleep(0.05)
            connection.sendall(b" ")

    return script


def silent(connection: socket.socket, _request: bytes) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    ("script", "act"),
    [
        (silent, ask),
        (silent, retrieve),
        (silent, echo),
        (dripping(head() + b"["), ask),
        (dripping(head(PARTS)), retrieve),
        (dripping(b"HTTP/1.1 200 OK\r\nX:"), ask),
        (dripping(b"HTTP/1.1 200 OK\r\nX:"), echo),
    ],
)
def test_a_server_that_is_too_slow_is_cut_off(
    script: Any, act: Callable[[DICOMwebPeer], object]
) -> None:
    with scripted_http(script) as asked:
        error = refusal(asked, act, timeout_s=0.5)
    assert error.kind is PeerErrorKind.TIMED_OUT


def test_a_server_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    large = tmp_path / "large.dcm"
    large.write_bytes(CT + bytes(40_000_000))
    sent = objects_in([large], on_other=lambda *_: None)

    def script(connection: socket.socket, _request: bytes) -> None:
        time.sleep(30)

    with scripted_http(script, reads_bodies=False) as asked:
        error = refusal(asked, lambda peer: send(peer, sent), timeout_s=0.5)
    assert error.kind is PeerErrorKind.TIMED_OUT


@pytest.mark.parametrize("act", ["find", "get", "send", "echo"])
def test_whoever_waits_can_stop(act: str, instances: list[StoredInstance]) -> None:
    cancel = threading.Event()
    acts: dict[str, Callable[[DICOMwebPeer], object]] = {
        "find": lambda peer: ask(peer, cancel=cancel),
        "get": lambda peer: Taken().get(peer, cancel=cancel),
        "echo": lambda peer: echo(peer, cancel=cancel),
        "send": lambda peer: send(peer, instances, cancel=cancel),
    }

    def script(connection: socket.socket, _request: bytes) -> None:
        cancel.set()
        time.sleep(30)

    with scripted_http(script) as asked:
        if act == "send":
            result = acts[act](peer_of(asked))
            assert isinstance(result, SendResult)
            assert (result.completed, result.left) == (0, 3)
        else:
            with pytest.raises(GivenUpError):
                acts[act](peer_of(asked))


# --- what is wrong ---


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answer("[{}", content_type="application/json"), "JSON that breaks off"),
        (answer("{}"), "no array of objects"),
        (answer('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]"), "JSON"),
        (answer("<html>hello</html>", content_type="text/html"), "is it a DICOMweb server?"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[]", "instead of application/dicom+json"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no valid HTTP"),
        (b"", "ended the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n", "no valid HTTP"),
        (b"HTTP/1.1 299 OK\r\nContent-Length: 0\r\n\r\n", "HTTP 299"),
        (answer("[]", 401), "asks for a login (HTTP 401)"),
        (answer("[]", 403), "does not allow us"),
        (answer('{"detail": "no \\u001b[31msuch\\nkey"}', 422), "(HTTP 422): no ?[31msuch key"),
        (answer(json.dumps({"detail": "a" * 300}), 422), f"(HTTP 422): {'a' * 197}..."),
    ],
)
def test_a_wrong_answer_to_a_query_is_named(script: bytes, reason: str) -> None:
    with scripted_http(script) as asked:
        told = str(refusal(asked, ask))
    assert reason in told
    assert "Error" not in told
    assert told.isprintable()


def test_an_answer_that_breaks_off_is_an_error_after_its_matches() -> None:
    body = head().replace(b"\r\n\r\n", b"\r\nContent-Length: 500\r\n\r\n")
    body += b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}},'
    with scripted_http(lambda connection, _request: connection.sendall(body)) as asked:
        matches = find(peer_of(asked), KEYS)
        assert next(matches).StudyInstanceUID == "1.2.3"
        with pytest.raises(PeerError, match="in the middle of its answer"):
            next(matches)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (part(CT), "breaks off"),
        (part(CT)[:-5000], "breaks off"),
        (b"", "has no part"),
        (b"--XX\r\nno field\r\n\r\n" + END, "no header field"),
    ],
)
def test_a_wrong_answer_to_a_retrieve_is_named(body: bytes, reason: str) -> None:
    with scripted_http(answer(body, content_type=PARTS)) as asked:
        taken = Taken()
        with pytest.raises(PeerError) as error:
            taken.get(peer_of(asked))
    assert reason in error.value.reason
    assert ("after 1 objects" in error.value.reason) == bool(taken.uids)


def test_objects_that_were_not_asked_for_are_refused() -> None:
    other = ct_slice(2, 3)
    other.StudyInstanceUID = "1.2.3.4"
    body = part(as_file(other)) + part(b"no DICOM") + part(b"{}", "application/json") + part(CT)
    with scripted_http(answer(body + END, content_type=PARTS)) as asked:
        taken = Taken()
        result = taken.get(peer_of(asked))
    assert taken.uids == [f"{CT_SERIES}.1"]
    assert [why for _, why in taken.refused] == [
        "is of study 1.2.3.4, which was not requested",
        "no DICOM file: the prefix DICM is missing",
        "it is no application/dicom",
    ]
    assert (result.completed, result.failed, result.status) == (1, 3, 0xB000)


def test_what_the_server_leaves_out_is_a_failure() -> None:
    warning = '299 server "1 object cannot be read"'
    with scripted_http(answer(part(CT) + END, 206, content_type=PARTS, Warning=warning)) as asked:
        result = retrieve(peer_of(asked))
    assert (result.completed, result.failed) == (1, 1)
    assert result.comment == "1 object cannot be read"


def test_a_single_object_and_a_server_without_the_star_do() -> None:
    plain = answer(CT, content_type="application/dicom")
    with scripted_http(answer(b"", 406), plain) as asked:
        assert retrieve(peer_of(asked)).completed == 1
        assert ["transfer-syntax=*" in each for each in asked.heads] == [True, False]


# --- pages ---


def pages(script: list[bytes], asked_for: int = 2) -> list[str]:
    with (
        pytest.MonkeyPatch.context() as patch,
        scripted_http(*script) as asked,
    ):
        patch.setattr(searching, "PAGE", asked_for)
        return ask(peer_of(asked))


def test_pages_end_with_an_empty_one_whatever_the_servers_limit() -> None:
    assert pages([found("1.1", "1.2"), found("1.3"), NONE]) == ["1.1", "1.2", "1.3"]
    assert pages([found("1.1"), found("1.2"), answer("[]")]) == ["1.1", "1.2"]  # its limit is 1


def test_a_server_without_pages_ends_the_query(capfd: pytest.CaptureFixture[str]) -> None:
    assert pages([found("1.1", "1.2", "1.3")]) == ["1.1", "1.2", "1.3"]  # all at once
    assert "may lack matches" not in "".join(capfd.readouterr())
    assert pages([found("1.1", "1.2")]) == ["1.1", "1.2"]  # the same again and again
    assert "may lack matches" in "".join(capfd.readouterr())


def test_what_the_server_warns_of_is_logged_once(capfd: pytest.CaptureFixture[str]) -> None:
    field = b'\r\nWarning: 299 server "fuzzymatching is not supported"\r\n\r\n'
    one, two = (found(uid).replace(b"\r\n\r\n", field, 1) for uid in ("1.1", "1.2"))
    assert pages([one, two, NONE]) == ["1.1", "1.2"]
    assert "".join(capfd.readouterr()).count("fuzzymatching is not supported") == 1


def test_a_server_that_refuses_large_pages_gets_small_ones() -> None:
    with scripted_http(answer("{}", 400), found("1.1"), NONE) as asked:
        assert ask(peer_of(asked)) == ["1.1"]
        assert ["limit=1000" in each for each in asked.targets] == [True, False, False]
    with scripted_http(answer('{"detail": "no"}', 400)) as asked:
        assert "(HTTP 400): no" in refusal(asked, ask).reason


def test_one_uid_is_asked_for_once() -> None:
    with scripted_http(found(CT_STUDY)) as asked:
        assert len(list(find(peer_of(asked), STUDY))) == 1
        assert len(asked.heads) == 1


def test_a_value_that_breaks_the_model_does_not_hide_its_match() -> None:
    document = [
        {
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": 4}]},
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00081190": "x",
        }
    ]
    with scripted_http(answer(json.dumps(document)), NONE) as asked:
        (match,) = find(peer_of(asked), KEYS)
    assert (match.StudyInstanceUID, "PatientName" in match) == ("1.2.3", False)


# --- credentials and TLS ---


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"user": "me", "password": "pä:ss"}, "Authorization: Basic bWU6cMOkOnNz"),
        ({"token": "abc.def"}, "Authorization: Bearer abc.def"),
    ],
)
def test_credentials_go_with_each_request(fields: dict[str, str], header: str) -> None:
    with scripted_http(found("1.1"), NONE) as asked:
        ask(peer_of(asked, **fields))
        assert len(asked.heads) == 2
        assert all(header in each for each in asked.heads)


def test_credentials_do_not_follow_a_redirect() -> None:
    with scripted_http(NONE) as other:
        there = answer(b"", 307, "", Location=f"{other.url}/studies")
        with scripted_http(there) as asked:
            error = refusal(asked, ask, token="secret")  # noqa: S106
            assert f"redirects to {other.url}/studies" in error.reason
    assert other.heads == []


def test_a_redirect_on_the_server_is_followed_and_not_for_ever() -> None:
    here = answer(b"", 301, "", Location="/elsewhere/studies?x=y")
    with scripted_http(here, found("1.1"), NONE) as asked:
        assert ask(peer_of(asked)) == ["1.1"]
        assert asked.targets[1] == "/elsewhere/studies?x=y"
    with scripted_http(here) as asked:
        assert "redirects to" in refusal(asked, ask).reason


def test_tls_is_verified_as_for_application_entities(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("server", "IP:127.0.0.1")
    elsewhere = authority.issue("elsewhere", "DNS:elsewhere.example")
    client = authority.issue("client")

    def serving(certificate: Any, *, asks: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.file, certificate.key)
        if asks:
            context.load_verify_locations(authority.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    trusting = {"tls_ca_file": str(authority.file)}
    with scripted_http(NONE, tls=serving(ours)) as asked:
        assert echo(peer_of(asked, **trusting)).duration_ms > 0
        assert echo(peer_of(asked, tls_verify=False)).duration_ms > 0
        assert "its certificate is not trusted" in refusal(asked, echo).reason
    with scripted_http(NONE, tls=serving(elsewhere)) as asked:
        assert "not trusted" in refusal(asked, echo, **trusting).reason
        assert echo(peer_of(asked, **trusting, tls_check_host=False)).duration_ms > 0
    with scripted_http(NONE, tls=serving(ours, asks=True)) as asked:
        shown = {"tls_certificate_file": str(client.file), "tls_key_file": str(client.key)}
        assert echo(peer_of(asked, **trusting, **shown)).duration_ms > 0
        told = refusal(asked, echo, **trusting).reason
        assert "certificate required" in told
        assert "_ssl" not in told
    with scripted_http(NONE) as asked:  # it waits for a request, and does no TLS
        url = asked.url.replace("http:", "https:")
        with pytest.raises(PeerError, match=r"cannot be reached: no answer within 0\.5 s"):
            echo(DICOMwebPeer(url, connect_timeout_s=0.5))


def test_a_server_that_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(PeerError, match="cannot be reached: Connection refused") as error:
        echo(DICOMwebPeer(url))
    assert error.value.passing
    with pytest.raises(PeerError, match="cannot be reached"):
        echo(DICOMwebPeer("http://nowhere.invalid/dicom-web", connect_timeout_s=20))


# --- sending ---


def stored(*uids: str, failed: tuple[tuple[str, int], ...] = (), status: int = 200) -> bytes:
    """An answer to a store."""

    def reference(uid: str, **more: Any) -> dict[str, Any]:
        return {"00081155": {"vr": "UI", "Value": [uid]}, **more}

    items = [reference(uid) for uid in uids]
    reasons = [
        reference(uid, **{"00081197": {"vr": "US", "Value": [reason]}}) for uid, reason in failed
    ]
    module = {"00081199": {"vr": "SQ", "Value": items}, "00081198": {"vr": "SQ", "Value": reasons}}
    return answer(json.dumps(module), status)


ONE, TWO, THREE = (f"{CT_SERIES}.{number}" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("scripts", "completed", "failed"),
    [
        ((stored(ONE, TWO, THREE),), 3, []),
        ((answer(b"", content_type=""),), 3, []),
        ((answer(b"oops", content_type="text/plain"),), 0, ["does not say that it has it"] * 3),
        ((stored(ONE, failed=((TWO, 0xA700),), status=202),), 1, ["0xA700, out of", "HTTP 202"]),
        ((stored(failed=((ONE, 0xC122),), status=409),), 0, ["0xC122", "HTTP 409", "HTTP 409"]),
        ((answer(b"", 409),), 0, ["HTTP 409"] * 3),
        (
            (answer(b"", 413), stored(ONE), answer('{"Message": "no"}', 400), stored(THREE)),
            2,
            ["refused it (HTTP 400): no"],
        ),
        ((b"", stored(ONE), stored(TWO), stored(THREE)), 3, []),
        ((b"", stored(ONE), b"", stored(THREE)), 2, ["ended the connection"]),
    ],
    ids=["all", "no body", "no module", "some", "none", "silent 409", "too much", "broke", "twice"],
)
def test_each_object_has_the_outcome_that_the_server_tells(
    instances: list[StoredInstance],
    scripts: tuple[bytes, ...],
    completed: int,
    failed: list[str],
) -> None:
    outcomes: list[str] = []
    with scripted_http(*scripts) as asked:
        result = send(
            peer_of(asked),
            instances,
            on_sent=lambda instance, _outcome, _why: outcomes.append(instance.sop_instance_uid),
        )
    assert sorted(outcomes) == [ONE, TWO, THREE]
    assert (result.completed, result.left) == (completed, 0)
    assert len(result.failed) == len(failed)
    assert all(text in why for text, (_, why) in zip(failed, result.failed, strict=True))


@pytest.mark.parametrize(
    ("script", "kind", "passing"),
    [
        (answer(b"", 401), PeerErrorKind.REJECTED, False),
        (answer(b"", 404), PeerErrorKind.REFUSED, False),
        (answer(b"", 503), PeerErrorKind.REFUSED, True),
        (b"", PeerErrorKind.ABORTED, True),
    ],
)
def test_what_is_wrong_with_all_objects_ends_the_send(
    instances: list[StoredInstance], script: bytes, kind: PeerErrorKind, passing: bool
) -> None:
    with scripted_http(script) as asked:
        error = refusal(asked, lambda peer: send(peer, instances))
    assert (error.kind, error.passing) == (kind, passing)


def test_a_server_that_breaks_off_a_single_object_may_be_tried_again(
    instances: list[StoredInstance],
) -> None:
    """As with several objects: it may be on its way down."""
    with scripted_http(b"") as asked:
        error = refusal(asked, lambda peer: send(peer, instances[:1]))
    assert (error.kind, error.passing) == (PeerErrorKind.ABORTED, True)


def test_the_body_of_a_store_is_the_files(instances: list[StoredInstance]) -> None:
    with scripted_http(stored(ONE, TWO, THREE)) as asked:
        send(peer_of(asked), instances)
        assert "Content-Type: multipart/related; type=" in asked.heads[0]
        assert asked.targets == ["/dicom-web/studies"]
        for instance in instances:
            content = Path(instance.path).read_bytes()
            assert b"\r\n\r\n" + content + b"\r\n--" in asked.bodies[0]


def test_a_server_that_answers_before_it_has_all_is_heard(tmp_path: Path) -> None:
    large = tmp_path / "large.dcm"
    large.write_bytes(CT + bytes(40_000_000))
    sent = objects_in([large], on_other=lambda *_: None)

    def script(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(answer('{"detail": "who are you"}', 401))
        time.sleep(5)

    with scripted_http(script, reads_bodies=False) as asked:
        error = refusal(asked, lambda peer: send(peer, sent))
    assert (error.kind, "who are you" in error.reason) == (PeerErrorKind.REJECTED, True)


def test_a_file_that_shrinks_while_it_is_sent_fails_alone(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.dcm").write_bytes(as_file(ct_slice(number, 3)))
    sent = objects_in([tmp_path], on_other=lambda *_: None)
    (tmp_path / "1.dcm").write_bytes(CT[:3000])
    with scripted_http(stored(TWO)) as asked:
        result = send(peer_of(asked), sent)
    assert (result.completed, result.failed) == (1, [(ONE, "the file became shorter")])
