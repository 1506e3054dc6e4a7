"""The page, OHIF and DICOMweb behind a proxy with TLS: config/haproxy-page.cfg before a node."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from lfscp.config.passwords import hash_password
from lfscp.web.ohif.installing import install
from tests.support import haproxy
from tests.support.certificates import Authority
from tests.support.ci import in_ci
from tests.support.dcmtk import free_port
from tests.support.identity_provider import CLIENT, SECRET, identity_provider
from tests.support.node_process import NodeProcess, StartNode
from tests.support.ohif_package import small_package
from tests.support.retrieved_objects import as_file
from tests.support.web_objects import CT_STUDY, ct_slice

PASSWORD = "correct horse"  # noqa: S105 - of a test


@dataclass
class Site:
    """A node as people reach it.

    Attributes:
        page, viewer, plain: where the proxy answers.
        trusted: the authority of its certificate.
    """

    node: NodeProcess
    page: str
    viewer: str
    plain: str
    trusted: Path

    def visitor(self) -> httpx.Client:
        """Somebody who keeps cookies."""
        return httpx.Client(verify=ssl.create_default_context(cafile=self.trusted), timeout=60)


@pytest.fixture
def site(start_node: StartNode, tmp_path: Path) -> Iterator[Site]:
    if haproxy.program() is None:
        (pytest.fail if in_ci() else pytest.skip)("install the package haproxy")
    file, package = small_package(tmp_path / "package")
    install(tmp_path / "node/data", file, package)
    authority = Authority(tmp_path / "certificates")
    ports = haproxy.Ports(free_port(), free_port(), free_port())
    viewer = f"https://localhost:{ports.viewer}"
    with identity_provider() as provider:
        provider.user["roles"] = ["read"]
        node = start_node(
            configuration=f"""
[web]
users = {json.dumps([f"anna:admin:{hash_password(PASSWORD)}"])}
trusted_proxies = ["127.0.0.1"]
[web.oidc]
issuer = "{provider.issuer}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
[ohif]
port = 0
public_url = "{viewer}"
""",
            flags=["--http-port", "0"],
        )
        served = [_port(node.wait_for(each)["url"]) for each in ("page", "OHIF")]
        certificate = authority.issue("page")
        with haproxy.with_tls(tmp_path, ports, served[0], certificate, viewer=served[1]):
            page, plain = f"https://localhost:{ports.page}", f"http://localhost:{ports.plain}"
            yield Site(node, page, viewer, plain, authority.file)


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def log_in(visitor: httpx.Client, at: str) -> httpx.Response:
    form = {"name": "anna", "password": PASSWORD}
    return visitor.post(f"{at}/login", data=form, headers={"Origin": at})


def stored(visitor: httpx.Client, at: str) -> httpx.Response:
    """A CT slice, sent as OHIF sends a report."""
    headers = {
        "Content-Type": "application/dicom",
        "Accept": "application/dicom+json",
        "Origin": at,
        "Sec-Fetch-Site": "same-origin",
    }
    content = as_file(ct_slice(0, 1))
    return visitor.post(f"{at}/dicom-web/studies", content=content, headers=headers)


def test_one_login_holds_for_page_ohif_and_dicomweb(site: Site) -> None:
    with site.visitor() as visitor:
        entered = log_in(visitor, site.page)
        assert entered.status_code == 303
        assert "Secure" in entered.headers["set-cookie"]
        for each in (f"{site.page}/jobs", f"{site.viewer}/viewer", f"{site.viewer}/app-config.js"):
            assert visitor.get(each).status_code == 200, each
        for at in (site.viewer, site.page):
            answer = stored(visitor, at)
            assert answer.status_code == 200
            assert answer.json()["00081190"]["Value"] == [f"{at}/dicom-web/studies/{CT_STUDY}"]
        page = visitor.get(f"{site.page}/studies/{CT_STUDY}").text
        assert f'href="{site.viewer}/viewer?StudyInstanceUIDs={CT_STUDY}"' in page


def test_urls_in_answers_are_those_of_the_proxy_whatever_a_visitor_says(site: Site) -> None:
    forged = {
        "Forwarded": "for=203.0.113.9;host=evil.example;proto=http",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
    }
    with site.visitor() as visitor:
        log_in(visitor, site.page)
        stored(visitor, site.viewer)
        path = f"/dicom-web/studies/{CT_STUDY}/metadata"
        for at in (site.page, site.viewer):
            (metadata,) = visitor.get(f"{at}{path}", headers=forged).json()
            pixels = metadata["7FE00010"]["BulkDataURI"]
            assert pixels.startswith(f"{at}/dicom-web/studies/{CT_STUDY}/")
            assert visitor.get(pixels, headers=forged).status_code == 200
    assert "203.0.113.9" not in (site.node.data_dir / "audit.log").read_text() + site.node.log


@pytest.mark.parametrize("where", ["page", "viewer"])
def test_the_provider_sends_the_browser_back_to_where_it_came_from(site: Site, where: str) -> None:
    at = getattr(site, where)
    with site.visitor() as visitor:
        asked = visitor.get(f"{at}/login/oidc?next=/dicom-web/studies")
        location = asked.headers["location"]
        back = parse_qs(urlsplit(location).query)["redirect_uri"]
        assert back == [f"{at}/login/oidc/return"]
        returned = visitor.get(location).headers["location"]
        assert visitor.get(returned).status_code == 200
        assert "lfscp_session" in visitor.cookies
        assert visitor.get(f"{at}/dicom-web/studies").status_code == 204


def test_a_visitor_without_tls_is_led_to_the_page_with_it(site: Site) -> None:
    answer = httpx.get(f"{site.plain}/studies")
    assert (answer.status_code, answer.headers["location"]) == (
        308,
        f"{site.plain}/studies".replace("http:", "https:"),
    )
