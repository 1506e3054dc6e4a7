"""DICOMweb servers as plain data: what a field may be, and that secrets stay in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lfscp.scu.dicomweb.peer import DICOMwebPeer, is_url
from lfscp.upperlayer.connection.tls import TLSFilesError

URL = "https://pacs.example/dicom-web"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": "pacs.example/dicom-web"}, "^url"),
        ({"url": "ftp://pacs.example/"}, "^url"),
        ({"url": "https:///dicom-web"}, "^url"),
        ({"url": "https://pacs.example:0/"}, "^url"),
        ({"url": "https://pacs.example:70000/"}, "^url"),
        ({"url": "https://pacs.example/a?b=c"}, "^url"),
        ({"url": "https://pacs.example/a b"}, "^url"),
        ({"url": "https://pacs.example/a\r\nHost: b"}, "^url"),
        ({"url": "https://me:hunter2@pacs.example/"}, "^url: expected no user"),
        ({"url": 4}, "^url"),
        ({"user": "a:b"}, "^user"),
        ({"user": "a", "token": "b"}, "^token"),
        ({"password": "b"}, "^user"),
        ({"user": "a", "password": "b\n"}, "^password"),
        ({"token": "a\r\nX: y"}, "^token"),
        ({"token": "ä"}, "^token"),
        ({"token": 3}, "^token"),
        ({"name": "a\n"}, "^name"),
        ({"timeout_s": 0}, "^timeout_s"),
        ({"timeout_s": float("nan")}, "^timeout_s"),
        ({"connect_timeout_s": True}, "^connect_timeout_s"),
        ({"port": 4}, "'port'"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        DICOMwebPeer.from_json({"url": URL, **fields})
    assert "hunter2" not in str(error.value)


def test_a_missing_url_is_named() -> None:
    with pytest.raises(ValueError, match="'url' is missing"):
        DICOMwebPeer.from_json({})


def test_it_comes_back_from_json_and_shows_no_secret() -> None:
    peer = DICOMwebPeer(URL + "/", user="me", password="hunter2", timeout_s=5)  # noqa: S106
    assert DICOMwebPeer.from_json(json.loads(json.dumps(peer.to_json()))) == peer
    assert str(peer) == URL
    assert str(DICOMwebPeer(URL, name="CLOUD")) == "CLOUD"
    assert "hunter2" not in repr(peer) + str(peer)
    assert "t0ken" not in repr(DICOMwebPeer(URL, token="t0ken"))  # noqa: S106


def test_ports_and_tls_follow_from_the_url() -> None:
    assert (DICOMwebPeer(URL).port, DICOMwebPeer("http://[::1]:81/x").port) == (443, 81)
    assert DICOMwebPeer("http://pacs.example").ssl_context() is None
    context = DICOMwebPeer(URL).ssl_context()
    assert context is not None
    assert context.check_hostname
    with pytest.raises(TLSFilesError):
        DICOMwebPeer(URL, tls_ca_file="/nowhere.pem").ssl_context()


def test_urls_are_told_from_application_entities() -> None:
    assert is_url("HTTPS://x")
    assert not is_url("HTTP@10.0.0.5:104")


def test_it_is_known_who_can_read_a_login() -> None:
    urls = ("http://pacs.example", "http://10.0.0.5:80/x", URL, "http://localhost", "http://[::1]/")
    readable = [DICOMwebPeer(url).is_readable_on_the_way for url in urls]
    assert readable == [True, True, False, False, False]
