"""Our DICOMweb client and servers that flood it so that nobody waits, or say what is not so."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from lfscp.scu.dicomweb.echo import echo
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.send import send
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind
from lfscp.scu.identifiers import identifier, plain
from lfscp.scu.send import objects_in
from tests.integration.scu.dicomweb.test_hostile_servers import (
    CT,
    NONE,
    Taken,
    ask,
    endless,
    found,
    peak_of,
    peer_of,
    refusal,
    retrieve,
    stored,
)
from tests.support.retrieved_objects import as_file
from tests.support.scripted_http import END, PARTS, answer, head, part, scripted_http
from tests.support.web_objects import CT_SERIES, ct_slice

ONE, TWO, THREE = (f"{CT_SERIES}.{number}" for number in (1, 2, 3))


# --- floods ---


@pytest.mark.parametrize("interim", [b"100 Continue", b"103 Early Hints\r\nLink: <x>"])
def test_heads_without_end_are_no_answer(interim: bytes) -> None:
    with scripted_http(endless(b"", (b"HTTP/1.1 " + interim + b"\r\n\r\n") * 1000)) as asked:
        error = refusal(asked, ask)
    assert error.reason == "sent no valid HTTP answer"


def test_an_interim_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    with scripted_http(early + found("1.1"), early + NONE) as asked:
        assert ask(peer_of(asked)) == ["1.1"]


def test_a_flood_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfscp.scu.dicomweb.connection.MAX_HEADS_BYTES", 1 << 60)
    cancel = threading.Event()
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 2000
    with scripted_http(endless(b"", flood)) as asked:
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(GivenUpError):
            ask(peer_of(asked), cancel=cancel)


def test_space_without_end_is_no_json() -> None:
    with scripted_http(endless(head() + b"[", b" " * 65536)) as asked:
        reasons: list[str] = []
        peak = peak_of(lambda: reasons.append(refusal(asked, ask).reason))
    assert "of space in JSON" in reasons[0]
    assert peak < 16 << 20


def test_the_same_object_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfscp.scu.taking._MAX_REFUSED", 50)
    with scripted_http(endless(head(PARTS), part(CT))) as asked:
        error = refusal(asked, retrieve)
    assert (error.kind, "came before" in error.reason) == (PeerErrorKind.REFUSED, True)


def test_an_object_may_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfscp.scu.taking._MAX_REFUSED", 2)
    objects = b"".join(part(as_file(ct_slice(number, 3))) for number in (1, 2, 3))
    body = objects + objects + b"--XX--\r\n"
    with scripted_http(answer(body, content_type=PARTS)) as asked:
        taken = Taken()
        assert taken.get(peer_of(asked)).completed == 3
    assert taken.uids == [ONE, TWO, THREE] * 2


def test_patients_with_long_numbers_cost_no_memory() -> None:
    def script(connection: Any, _request: bytes) -> None:
        documents = (
            {"00100020": {"vr": "UT", "Value": [f"{n}{'A' * 800_000}"]}} for n in range(40)
        )
        connection.sendall(head() + b"[")
        connection.sendall(json.dumps(next(documents)).encode())
        for each in documents:
            connection.sendall(b"," + json.dumps(each).encode())
        connection.sendall(b"]")

    patients = identifier({"PatientID": ""}, "PATIENT")
    with scripted_http(script, NONE) as asked:
        counts = []
        peak = peak_of(lambda: counts.append(sum(1 for _ in find(peer_of(asked), patients))))
    assert counts == [40]
    assert peak < 16 << 20


def test_warnings_without_end_are_logged_in_part(capfd: pytest.CaptureFixture[str]) -> None:
    many = ", ".join(f'299 - "warning {number}"' for number in range(3000))
    with scripted_http(answer("[]", Warning=many)) as asked:
        assert ask(peer_of(asked)) == []
    assert "".join(capfd.readouterr()).count("the server warns") == 5


def test_a_large_object_does_not_grow_into_the_reserve_of_the_disk(tmp_path: Path) -> None:
    body = part(CT + bytes(9_000_000)) + part(CT) + END
    with scripted_http(answer(body, content_type=PARTS)) as asked:
        taken = Taken()
        result = taken.get(peer_of(asked), shortage=lambda: "1 MB is free", spool_dir=tmp_path)
    assert taken.refused == [("object 1", "1 MB is free")]
    assert (result.completed, result.failed) == (1, 1)
    assert not list(tmp_path.iterdir())


# --- what it says of us ---

LOGINS = [{"token": "S3cretTok-en"}, {"user": "anna", "password": "S3cretTok-en"}]


@pytest.mark.parametrize("login", LOGINS, ids=["token", "password"])
@pytest.mark.parametrize(
    "reflect",
    [
        lambda told: answer(json.dumps({"detail": told}), 403),
        lambda told: answer(told, 500, content_type="text/plain"),
        lambda told: answer("[]", content_type=told),
        lambda told: answer(b"", 302, "", Location=f"http://elsewhere.example/{told}"),
        lambda told: answer("[]", Warning=f'299 - "{told}"', Server=told),
    ],
    ids=["json", "text", "type", "redirect", "warning and name"],
)
def test_a_server_that_repeats_our_login_does_not_make_us_tell_it(
    login: dict[str, str], reflect: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    peer = DICOMwebPeer("http://pacs.example", **login)
    told: list[str] = []
    sent = peer.authorization.partition(" ")[2]
    for secret in {sent, "S3cretTok-en"}:
        with scripted_http(reflect(f"bad/{secret}/")) as asked:
            for act in (ask, echo, retrieve):
                try:
                    told.append(repr(act(peer_of(asked, **login))))
                except PeerError as error:
                    told.append(str(error))
    shown = "".join([*told, *capfd.readouterr()]).casefold()
    assert "***" in shown
    assert "s3crettok" not in shown
    assert sent.casefold()[:12] not in shown


# --- lies and other faults ---


@pytest.mark.parametrize(
    "location",
    ["/a b", "file:///etc/passwd", "//elsewhere.example/x", "http://[::1/x", "/\xe4", ""],
)
def test_a_redirect_to_no_place_of_the_server_is_refused(location: str) -> None:
    with scripted_http(answer(b"", 302, "", Location=location)) as asked:
        error = refusal(asked, ask)
    assert (error.kind, error.reason[:13]) == (PeerErrorKind.REFUSED, "redirects to ")
    assert len(asked.heads) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'[{"0020000D":{"vr":"UI","Value":["\xff"]}}]', "sent JSON that is no UTF-8"),
        ("[{}]".encode("utf-16"), "sent JSON that is no UTF-8"),
        (
            b'[{"0020000D":{"vr":"IS","Value":[' + b"1" * 5000 + b"]}}]",
            "a number of too many digits",
        ),
    ],
    ids=["byte", "utf-16", "digits"],
)
def test_a_document_that_cannot_be_read_is_named_in_plain_words(body: bytes, reason: str) -> None:
    with scripted_http(answer(body)) as asked:
        told = refusal(asked, ask).reason
    assert reason in told
    assert not any(word in told for word in ("codec", "sys.", "position"))


@pytest.mark.parametrize(
    "value",
    [
        '{"vr":"PN","Value":[{"Alphabetic":"\\ud800x"}]}',
        f'{{"vr":"LO","Value":["{"A" * 70_000}"]}}',
    ],
    ids=["half a character", "too long"],
)
def test_a_value_that_no_dataset_can_hold_does_not_hide_its_match(value: str) -> None:
    document = f'[{{"0020000D":{{"vr":"UI","Value":["1.2.3"]}},"00100010":{value}}}]'
    keys = identifier({"StudyInstanceUID": "", "PatientName": ""}, "STUDY")
    with scripted_http(answer(document), NONE) as asked:
        (match,) = find(peer_of(asked), keys)
    assert plain(match) == {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}


def test_a_store_counts_only_for_the_objects_that_the_answer_names(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.dcm").write_bytes(as_file(ct_slice(number, 3, 32)))
    sent = objects_in([tmp_path], on_other=lambda *_: None)
    with scripted_http(stored("9.9.9", TWO)) as asked:
        result = send(peer_of(asked), sent)
    assert (result.completed, result.warning) == (1, 0)
    assert [uid for uid, _ in result.failed] == [ONE, THREE]
    assert {why for _, why in result.failed} == {
        "the server names others that it has, and not this one"
    }


def test_a_store_answered_with_a_million_items_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(as_file(ct_slice(1, 3, 32)))
    sent = objects_in([tmp_path], on_other=lambda *_: None)
    items = ",".join(['{"00081155":{"vr":"UI","Value":["1"]}}'] * 1_000_000)
    script = answer(f'{{"00081198":{{"vr":"SQ","Value":[{items}]}}}}')
    del items
    with scripted_http(script) as asked:
        peak = peak_of(
            lambda: _expect_too_long(refusal(asked, lambda peer: send(peer, sent)).reason)
        )
    assert peak < 16 << 20


def _expect_too_long(reason: str) -> None:
    assert reason == "sent an answer of more than 2 MB"
