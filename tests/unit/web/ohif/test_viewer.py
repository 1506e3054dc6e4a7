"""OHIF's port: its files with their headers, its paths, its login, and what it shares."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from lfscp.config.passwords import hash_password
from lfscp.web.ohif.installing import install, remove
from tests.support.ohif_package import FILES, START_PAGE, WORKER, small_package
from tests.support.web_app import serving
from tests.support.web_objects import CT_STUDY

pytestmark = pytest.mark.usefixtures("quick_passwords")
PORT = 8081
HERE = f"http://127.0.0.1:{PORT}"
BUNDLE = "/app.bundle.0123456789abcdef.js"
PASSWORD = "correct horse"  # noqa: S105 - of a test
PAGE = {"Accept": "text/html"}


def at_ohif(client: TestClient) -> TestClient:
    """A browser at the other port of the same application."""
    return TestClient(client.app, base_url=HERE, raise_server_exceptions=False)


@pytest.fixture
def node(tmp_path):
    install(tmp_path / "data", *small_package(tmp_path))
    with serving(tmp_path / "data", ohif_port=PORT) as client:
        yield client


@pytest.fixture
def ohif(node):
    return at_ohif(node)


@pytest.fixture
def guarded(tmp_path):
    install(tmp_path / "data", *small_package(tmp_path))
    users = [f"anna:work:{hash_password(PASSWORD)}"]
    with serving(tmp_path / "data", ohif_port=PORT, web={"users": users}) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/viewer?StudyInstanceUIDs=1.2", "/local", "/a/b", "/jobs"])
def test_its_own_paths_get_the_start_page(ohif, path):
    answer = ohif.get(path)

    assert (answer.status_code, answer.text) == (200, START_PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_only_the_start_page_runs_inline_scripts_and_only_the_decoder_makes_code(ohif):
    policies = {
        path: ohif.get(path).headers["content-security-policy"]
        for path in ("/", BUNDLE, f"/{WORKER}", "/app-config.js", "/assets/favicon.ico")
    }

    assert "script-src 'self' 'sha256-" in policies["/"]
    assert [path for path, text in policies.items() if "sha256" in text] == ["/"]
    assert [path for path, text in policies.items() if "unsafe-eval" in text] == [f"/{WORKER}"]
    assert all(each.count("script-src") == 1 for each in policies.values())
    assert all("default-src 'none'" in each for each in policies.values())
    assert "'unsafe-inline'" not in policies["/"].split("style-src")[0]
    assert ohif.get("/").headers["x-content-type-options"] == "nosniff"


def test_files_come_zipped_to_those_who_take_it_and_with_their_types(ohif):
    zipped = ohif.get(BUNDLE, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    plain = ohif.get(BUNDLE, headers={"Accept-Encoding": "gzip;q=0"})

    assert (zipped.text, plain.text) == (FILES[BUNDLE[1:]],) * 2  # the client unzips
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"])
    assert "content-encoding" not in plain.headers
    assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert zipped.headers["etag"] != plain.headers["etag"]
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "content-encoding" not in ohif.get("/app.bundle.css").headers  # too small to be zipped


def test_a_file_with_its_digest_in_its_name_is_kept_and_others_are_asked_for_again(ohif):
    kept = ohif.get(BUNDLE).headers["cache-control"]
    again = ohif.get("/app.bundle.css")

    assert kept == "public, max-age=31536000, immutable"
    assert again.headers["cache-control"] == "no-cache"
    for path in ("/app.bundle.css", BUNDLE, "/", "/app-config.js"):
        tag = ohif.get(path).headers["etag"]
        unchanged = ohif.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == tag
        assert ohif.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_head_has_the_headers_alone(ohif):
    for path in ("/", BUNDLE, "/app-config.js"):
        got, asked = ohif.get(path), ohif.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert {**got.headers} == {**asked.headers}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/absent.js", 404),
        ("GET", "/ort/large.wasm", 404),
        ("GET", "/../installed.json", 404),
        ("GET", "/..%2finstalled.json", 404),
        ("GET", "/%2e%2e/%2e%2e/index.sqlite", 404),
        ("POST", BUNDLE, 405),
        ("POST", "/", 405),
        ("DELETE", "/viewer", 405),
    ],
)
def test_there_is_nothing_else(ohif, method, path, status):
    answer = ohif.request(method, path)

    assert answer.status_code == status
    assert answer.json()["status"] == status


def test_no_link_leads_out_of_its_folder(ohif, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "favicon.ico").write_text("secret")
    (files,) = (tmp_path / "data" / "ohif").glob("files-*")
    for name, target in (("app.bundle.css", "secret"), ("assets", "elsewhere")):
        (files / name).rename(tmp_path / f"{name}.kept")
        (files / name).symlink_to(tmp_path / target)
    assert ohif.get("/app.bundle.css").status_code == 404
    assert ohif.get("/assets/favicon.ico").status_code == 404
    assert ohif.get(BUNDLE).status_code == 200


def test_its_configuration_names_this_node_and_no_host(ohif):
    text = ohif.get("/app-config.js").text
    config = json.loads(text.removeprefix("window.config = ").rstrip(";\n"))

    (source,) = config["dataSources"]
    roots = [source["configuration"][f"{name}Root"] for name in ("qido", "wado", "wadoUri")]
    assert roots == ["/dicom-web", "/dicom-web", "/wado"]
    assert source["configuration"]["friendlyName"] == "LFSCP"
    assert source["sourceName"] == config["defaultDataSourceName"]


def test_dicomweb_and_health_checks_are_at_both_ports_the_page_and_the_api_are_not(node, ohif):
    for path in ("/dicom-web/studies", "/healthz", "/readyz", "/static/style.css"):
        assert ohif.get(path).status_code == node.get(path).status_code != 404
    assert ohif.request("OPTIONS", "/dicom-web").status_code == 200
    for path in ("/api/studies", "/metrics", "/node", "/api/jobs"):
        assert ohif.get(path).text == START_PAGE
        assert node.get(path).text != START_PAGE
    assert node.get(BUNDLE).status_code == 404
    assert node.get("/viewer").status_code == 404


def test_the_start_page_and_dicomweb_need_the_page_s_login_and_the_files_do_not(guarded):
    ohif = at_ohif(guarded)
    target = "/viewer?StudyInstanceUIDs=1.2,3.4"
    asked = ohif.get(target, headers=PAGE, follow_redirects=False)

    assert asked.status_code == 303
    assert asked.headers["location"].startswith("/login?next=/viewer")
    assert ohif.get("/dicom-web/studies").status_code == 401
    assert ohif.get("/").status_code == 401
    assert ohif.post("/").status_code == 401
    for path in (BUNDLE, "/app-config.js", "/assets/favicon.ico", "/login"):
        assert ohif.get(path).status_code == 200

    form = {"name": "anna", "password": PASSWORD, "next": target}
    entered = ohif.post("/login", data=form, headers=PAGE, follow_redirects=False)
    assert entered.headers["location"] == "/viewer?StudyInstanceUIDs=1.2%2C3.4"
    assert ohif.get(target).text == START_PAGE
    assert ohif.get("/dicom-web/studies").status_code == 204
    ours = {"Sec-Fetch-Site": "same-origin", "Origin": HERE}
    assert ohif.post("/dicom-web/studies", headers=ours).status_code not in (401, 403)
    from_the_page = {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"}
    assert ohif.post("/dicom-web/studies", headers=from_the_page).status_code == 403


def test_on_loopback_it_answers_to_no_other_name(ohif):
    assert ohif.get("/", headers={"Host": "evil.example:8081"}).status_code == 421


def test_a_node_sees_at_once_what_is_installed_and_removed(tmp_path):
    with serving(tmp_path / "data", ohif_port=PORT) as client:
        ohif = at_ohif(client)
        before = ohif.get("/")
        install(tmp_path / "data", *small_package(tmp_path))
        there = ohif.get("/")
        install(tmp_path / "data", *small_package(tmp_path / "b", {"index.html": "<html>2</html>"}))
        replaced = ohif.get("/")
        remove(tmp_path / "data")
        after = ohif.get("/")

    assert [each.status_code for each in (before, there, replaced, after)] == [503, 200, 200, 503]
    assert "lfscp ohif install" in before.json()["detail"]
    assert replaced.text == "<html>2</html>"


@pytest.mark.parametrize(
    ("section", "host", "base"),
    [
        ({}, "127.0.0.1:8080", "http://127.0.0.1:8081"),
        ({}, "localhost", "http://localhost:8081"),
        ({}, "[::1]:8080", "http://[::1]:8081"),
        ({"public_url": "https://v.example.org/"}, "127.0.0.1:8080", "https://v.example.org"),
    ],
)
def test_the_page_links_each_study_to_ohif(tmp_path, files, section, host, base):
    install(tmp_path / "data", *small_package(tmp_path))
    link = f'href="{base}/viewer?StudyInstanceUIDs={CT_STUDY}"'
    with serving(tmp_path / "data", ohif_port=PORT, ohif=section) as client:
        client.post("/api/instances", content=next(iter(files.glob("ct*.dcm"))).read_bytes())
        pages = [client.get(path, headers={"Host": host}) for path in ("/", f"/studies/{CT_STUDY}")]
        remove(tmp_path / "data")
        without = client.get("/")

    assert [link in each.text for each in pages] == [True, True]
    assert "OHIF" not in without.text


def test_without_a_port_there_is_no_link(filled):
    assert "OHIF" not in filled.get("/").text
    assert "OHIF" not in filled.get(f"/studies/{CT_STUDY}").text


@pytest.mark.parametrize("url", ["ftp://v.example", "https://v.example/path", "v.example", "a b"])
def test_a_public_url_that_is_none_is_refused(url):
    from lfscp.config import Settings

    with pytest.raises(ValueError, match="a URL without a path"):
        Settings.model_validate({"ohif": {"public_url": url}})


@pytest.mark.parametrize("path", ["/1%0A.2", "/1.2/series/%0A.3", "/1%0A/metadata", "/%0A/a.b"])
def test_a_path_of_dicomweb_with_a_line_end_needs_a_login_too(guarded, path):
    assert at_ohif(guarded).get(f"/dicom-web/studies{path}").status_code == 401
