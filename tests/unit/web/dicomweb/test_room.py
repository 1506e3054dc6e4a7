"""What holds for all of DICOMweb: URLs, other sites' pages, capabilities, errors, warnings."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from lfscp.config import Settings
from lfscp.config.passwords import new_token
from lfscp.web.dicomweb.warning_header import warning_headers
from lfscp.web.security.forwarded import asked_address
from tests.support.web_app import serving

VIEWER = "https://viewer.example.org"
PREFLIGHT = {"Origin": VIEWER, "Access-Control-Request-Method": "GET"}
TOKEN, HASHED = new_token()


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[TestClient]:
    """A node with a login and a listed site."""
    folder = tmp_path_factory.mktemp("node")
    with serving(folder, web={"token_hash": HASHED}, dicomweb={"cors_origins": [VIEWER]}) as client:
        yield client


@pytest.fixture(scope="module")
def open_node(tmp_path_factory) -> Iterator[TestClient]:
    """A node for this machine only, without a login."""
    with serving(tmp_path_factory.mktemp("open")) as client:
        yield client


def base(client: TestClient, headers: dict[str, str]) -> str:
    """The URL of DICOMweb in the capabilities."""
    answer = client.options("/dicom-web", headers={"Accept": "application/json", **headers})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["application"]["resources"]["@base"])


def test_a_preflight_of_a_listed_site_needs_no_login(node):
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": "authorization,accept"}
    answer = node.options("/dicom-web/studies", headers=asked)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == VIEWER
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_another_site_gets_no_leave(node):
    answer = node.options("/dicom-web/studies", headers={**PREFLIGHT, "Origin": "https://evil.org"})

    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


def test_a_listed_site_sees_why_it_is_refused(node):
    answer = node.get("/dicom-web/nothing", headers={"Origin": VIEWER})

    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == VIEWER
    assert "Warning" in answer.headers["access-control-expose-headers"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_listed_site_may_change_dicomweb_and_nothing_else(node):
    login = {"Origin": VIEWER, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {TOKEN}"}

    assert node.delete("/dicom-web/nothing", headers=login).status_code in (404, 405)
    assert node.delete("/api/studies/1.2", headers=login).status_code == 403
    login["Origin"] = "https://evil.org"
    assert node.delete("/dicom-web/nothing", headers=login).status_code == 403


def test_capabilities_are_wadl_and_name_the_host_that_was_asked(open_node):
    answer = open_node.options("/dicom-web", headers={"Host": "localhost:9"})
    root = ElementTree.fromstring(answer.text)  # noqa: S314 - our own

    assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
    (resources,) = root
    assert resources.attrib["base"] == "http://localhost:9/dicom-web"
    assert open_node.options("/dicom-web/nothing").status_code == 404
    assert open_node.options("/dicom-web", headers={"Accept": "image/png"}).status_code == 406


@pytest.mark.parametrize("path", ["nothing", "studies/1.2/nothing", "studies/", "a/b/c", ""])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_what_is_not_there_is_not_found_by_any_method(open_node, method, path):
    answer = open_node.request(method, f"/dicom-web/{path}", follow_redirects=False)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "allow" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "studies", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "studies/1.2", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("POST", "studies/1.2/series/1.3/instances/1.4/frames/1", "GET, HEAD, OPTIONS"),
        ("DELETE", "studies/1.2/series/1.3/instances/1.4/bulkdata/00420011", "GET, HEAD, OPTIONS"),
        ("POST", "studies/1.2/metadata", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_a_resource_lacks_is_answered_with_those_it_has(
    open_node, method, path, allowed
):
    answer = open_node.request(method, f"/dicom-web/{path}")

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == "application/problem+json"


def test_urls_are_public_when_the_setting_says_so(tmp_path):
    url = "https://pacs.example.org/pacs/dicom-web/"
    with serving(tmp_path, dicomweb={"public_url": url}) as client:
        assert base(client, {"Host": "localhost"}) == url.rstrip("/")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "pacs:81"}, "http://pacs:81/dicom-web"),
        (
            {"Host": "a", "Forwarded": "for=192.0.2.7;host=pacs.example.org;proto=https"},
            "https://pacs.example.org/dicom-web",
        ),
        ({"Host": "a", "X-Forwarded-Proto": "https"}, "https://a/dicom-web"),
    ],
)
def test_urls_are_what_a_trusted_proxy_was_asked(tmp_path, headers, expected):
    section = {"token_hash": HASHED, "trusted_proxies": ["127.0.0.1/32"]}
    with serving(tmp_path, web=section) as client:
        inside = TestClient(client.app, base_url="http://x", client=("127.0.0.1", 5))
        assert base(inside, {**headers, "Authorization": f"Bearer {TOKEN}"}) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("localhost", "localhost:8080"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("pacs", "pacs"),
    ],
)
def test_our_own_address_without_a_port_gets_ours(node, host, expected):
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    assert base(node, headers) == f"http://{expected}/dicom-web"


@pytest.mark.parametrize("host", ["a b", 'x"><script>', "[::1", "a/b"])
def test_a_host_that_is_none_is_refused(node, host):
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    assert node.options("/dicom-web", headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ("", "")),
        (["Forwarded: for=192.0.2.7;proto=HTTPS;host=a"], ("https", "a")),
        (["Forwarded: for=1.2.3.4;host=evil, for=192.0.2.7;host=a"], ("", "a")),
        (["Forwarded: for=192.0.2.7;host=a;proto=https, for=10.0.0.9;host=in"], ("https", "a")),
        (["X-Forwarded-Host: evil, a", "X-Forwarded-Proto: https"], ("https", "a")),
        (["X-Forwarded-Host: evil", "Forwarded: for=192.0.2.7;host=a"], ("", "")),
    ],
)
def test_only_a_trusted_proxy_says_what_was_asked(lines, expected):
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in (line.split(": ", 1) for line in lines)
    ]
    proxies = [ipaddress.ip_network("10.0.0.0/24")]

    assert asked_address("10.0.0.1", headers, proxies) == expected
    assert asked_address("192.0.2.1", headers, proxies) == ("", "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("public_url", "pacs.example.org"),
        ("public_url", "ftp://a/dicom-web"),
        ("public_url", "https://a/x?y"),
        ("cors_origins", ["*"]),
        ("cors_origins", ["viewer.example.org"]),
        ("cors_origins", ["https://viewer.example.org/path"]),
    ],
)
def test_a_wrong_address_is_said(key, value):
    with pytest.raises(ValueError, match=r"https://(pacs|viewer)\.example\.org"):
        Settings.model_validate({"dicomweb": {key: value}})


def test_a_warning_is_said_once_and_is_one_line():
    assert warning_headers([]) == {}
    found = warning_headers(["a", "a", 'b "c"\r\nX: y ü'])
    assert found == {"Warning": '299 lfscp "a", 299 lfscp "b \'c\'??X: y ?"'}
