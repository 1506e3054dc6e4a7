"""The page's login at an identity provider: the way there and back, and what does not get in."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import urllib.request
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from fastapi.testclient import TestClient

from lfscp.config.passwords import hash_password
from lfscp.observe import audit
from lfscp.services.access.attempts import MAX_FAILURES, MAX_FAILURES_OF_ADDRESS
from lfscp.web.app import renew
from lfscp.web.security.oidc import sign_in
from lfscp.web.security.oidc.identity_provider import UNNAMED
from tests.support.identity_provider import CLIENT, SECRET, SigningKey, identity_provider
from tests.support.web_app import HOME, serving

pytestmark = pytest.mark.usefixtures("quick_passwords")
KEY = SigningKey("first")
PAGE = {"Accept": "text/html"}
PASSWORD = "correct horse"  # noqa: S105 - of a test


@pytest.fixture
def idp():
    with identity_provider() as provider:
        provider.keys = [KEY]
        yield provider


@pytest.fixture
def oidc(idp):
    return {"issuer": idp.issuer, "client_id": CLIENT, "client_secret": SECRET}


@pytest.fixture
def node(tmp_path, oidc):
    with serving(tmp_path, web={"oidc": oidc}) as client:
        client.app.state.web.access.provider._provider._background.join(10)
        yield client


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        """Follow none."""


def at_provider(url):
    """Where the provider sends a browser that comes with this address."""
    opener = urllib.request.build_opener(NoRedirects())
    with pytest.raises(urllib.request.HTTPError) as answered:
        opener.open(url, timeout=10)
    with answered.value as answer:
        assert answer.status == 302
        return answer.headers["location"]


def begin(node, next_page="/jobs", **headers):
    """The address at the provider where a login begins."""
    answer = node.get(
        f"/login/oidc?{urlencode({'next': next_page})}", headers=headers, follow_redirects=False
    )
    assert answer.status_code == 303
    return answer.headers["location"]


def come_back(node, location, **changes):
    """What the node answers when the browser comes back, with a changed query if asked for."""
    parts = urlsplit(location)
    query = {**dict(parse_qsl(parts.query)), **changes}
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return node.get(f"{parts.path}?{given}", headers=PAGE, follow_redirects=False)


def log_in(node, next_page="/jobs"):
    return come_back(node, at_provider(begin(node, next_page)))


def test_a_page_leads_to_the_provider_and_back_to_itself(node, idp):
    asked = node.get("/jobs", headers=PAGE, follow_redirects=False)
    login = node.get(asked.headers["location"], follow_redirects=False)
    assert (login.status_code, login.headers["location"]) == (303, "/login/oidc?next=/jobs")

    answer = log_in(node)

    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/jobs">' in answer.text
    page = node.get("/jobs", headers=PAGE)
    assert page.status_code == 200
    assert '<span class="user">berta</span>' in page.text
    assert idp.asked["/token"] == 1


def test_what_the_provider_is_asked_is_pkce_with_state_and_nonce_that_are_new_each_time(node, idp):
    asked = [dict(parse_qsl(urlsplit(begin(node)).query)) for _ in range(2)]
    first, second = asked
    assert first["redirect_uri"] == f"{HOME}/login/oidc/return"
    assert first["scope"] == "openid profile"
    assert (first["client_id"], first["code_challenge_method"]) == (CLIENT, "S256")
    assert len(first["code_challenge"]) == 43
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]
    assert len({first["state"], first["nonce"], first["code_challenge"]}) == 3


def test_the_cookies_are_bound_to_this_page(node):
    begun = node.get("/login/oidc", follow_redirects=False).headers["set-cookie"]
    for word in ("HttpOnly", "SameSite=lax", "Path=/login/oidc", "Max-Age=600"):
        assert word in begun
    assert "Secure" not in begun
    given = log_in(node).headers.get_list("set-cookie")
    session = next(each for each in given if each.startswith("lfscp_session="))
    for word in ("HttpOnly", "SameSite=strict", "Max-Age=14400"):
        assert word in session
    login = next(each for each in given if each.startswith("lfscp_login="))
    assert "Max-Age=0" in login


def test_a_public_address_is_where_the_provider_sends_the_browser(tmp_path, oidc):
    oidc = {**oidc, "public_url": "https://pacs.example.org/"}
    with serving(tmp_path, web={"oidc": oidc}) as node:
        answer = node.get("/login/oidc", follow_redirects=False)
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        assert query["redirect_uri"] == ["https://pacs.example.org/login/oidc/return"]
        assert "Secure" in answer.headers["set-cookie"]


def test_the_public_address_of_ohif_is_where_a_login_at_its_port_comes_back(tmp_path, oidc):
    oidc = {**oidc, "public_url": "https://pacs.example.org"}
    of_ohif = {"public_url": "https://viewer.example.org"}
    with serving(tmp_path, ohif_port=8081, web={"oidc": oidc}, ohif=of_ohif) as node:
        viewer = TestClient(node.app, base_url="http://127.0.0.1:8081")
        for client, home in ((viewer, "viewer"), (node, "pacs")):
            query = parse_qs(urlsplit(begin(client)).query)
            assert query["redirect_uri"] == [f"https://{home}.example.org/login/oidc/return"]


def test_at_ohif_s_port_the_browser_comes_back_to_ohif(tmp_path, idp, oidc):
    oidc = {**oidc, "public_url": "https://pacs.example.org"}
    with serving(tmp_path, ohif_port=8081, web={"oidc": oidc}) as node:
        viewer = TestClient(node.app, base_url="http://127.0.0.1:8081")
        location = begin(viewer, "/viewer?StudyInstanceUIDs=1.2")
        query = parse_qs(urlsplit(location).query)
        assert query["redirect_uri"] == ["http://127.0.0.1:8081/login/oidc/return"]
        answer = come_back(viewer, at_provider(location))
        assert 'content="0; url=/viewer?StudyInstanceUIDs=1.2">' in answer.text
        assert viewer.get("/dicom-web/studies").status_code in (200, 204)
        node.cookies.set("lfscp_session", viewer.cookies["lfscp_session"])  # one for all ports
        assert node.get("/jobs").status_code == 200


def test_a_trusted_proxy_names_the_public_address(tmp_path, oidc):
    web = {"oidc": oidc, "trusted_proxies": ["127.0.0.1"]}
    with serving(tmp_path, web=web) as node:
        forwarded = {"Forwarded": "for=192.0.2.7;proto=https;host=pacs.example.org"}
        node._transport.client = ("127.0.0.1", 5)
        location = begin(node, **forwarded)
        query = parse_qs(urlsplit(location).query)
        assert query["redirect_uri"] == ["https://pacs.example.org/login/oidc/return"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ('/jobs"><b>', "/jobs%22%3E%3Cb%3E"),
        ("/" + "a" * 5000, "/"),
    ],
)
def test_a_login_leads_to_no_other_site(node, given, path):
    assert f'content="0; url={path}">' in log_in(node, given).text


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"state": "other"}, 400, "did not begin in this browser"),
        ({"state": None}, 400, "did not begin in this browser"),
        ({"state": "ä"}, 400, "did not begin in this browser"),
        ({"code": None}, 400, "sent no code"),
        ({"code": "guessed"}, 400, "does not take the code"),
        ({"iss": "https://other.example"}, 400, "another identity provider (iss)"),
    ],
)
def test_an_answer_that_is_not_this_login_s_lets_nobody_in(node, changes, status, reason):
    answer = come_back(node, at_provider(begin(node)), **changes)
    assert (answer.status_code, reason in answer.text) == (status, True)
    assert node.get("/jobs").status_code == 401


def test_another_browser_cannot_use_the_answer(node):
    location = at_provider(begin(node))
    node.cookies.clear()
    assert come_back(node, location).status_code == 400
    begin(node)  # a login of its own
    assert come_back(node, location).status_code == 400
    assert node.get("/jobs").status_code == 401


def test_a_login_counts_once_and_for_ten_minutes(node, idp, monkeypatch):
    location = at_provider(begin(node))
    cookie = node.cookies["lfscp_login"]
    assert come_back(node, location).status_code == 200
    node.cookies.clear()
    node.cookies.set("lfscp_login", cookie)
    assert come_back(node, location).status_code == 400  # the provider knows the code no longer
    code = json.dumps(idp.logins[-1])
    idp.codes["again"] = json.loads(code)
    assert come_back(node, location, code="again").status_code == 400  # nor do we, if it did

    location = at_provider(begin(node))

    class Later:
        @staticmethod
        def time():
            return time.time() + 700

    monkeypatch.setattr(sign_in, "time", Later)
    answer = come_back(node, location)
    assert "more than 10 minutes ago" in answer.text


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "W10.x", "%%%.é"])
def test_a_cookie_that_is_not_ours_is_refused(node, cookie):
    begin(node)
    answer = node.get(
        "/login/oidc/return?code=a&state=b", headers={"Cookie": f"lfscp_login={cookie}".encode()}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"nonce": "other"}, "it is of another login (nonce)"),
        ({"nonce": None}, "it is of another login (nonce)"),
        ({"aud": "other"}, "it is not for lfscp (aud, azp)"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "it is not for lfscp (aud, azp)"),
        ({"iss": "https://other.example"}, "its issuer (iss) is not"),
        ({"exp": 1}, "it has expired"),
        ({"sub": None}, "it has no sub"),
        ({"iat": None}, "it has no iat"),
    ],
)
def test_an_id_token_that_proves_nothing_lets_nobody_in(node, idp, claims, reason):
    idp.id_claims = claims
    answer = log_in(node)
    assert (answer.status_code, reason in answer.text) == (400, True)
    assert node.get("/jobs").status_code == 401


def test_an_id_token_of_another_key_lets_nobody_in(node, idp, monkeypatch):
    stranger = SigningKey("first")
    signed = idp.signed
    monkeypatch.setattr(idp, "signed", lambda claims, key=None: signed(claims, stranger))
    assert "its signature is wrong" in log_in(node).text


def test_roles_may_be_in_the_access_token_only(node, idp):
    idp.id_claims = {"roles": None}
    assert log_in(node).status_code == 200
    assert node.get("/upload", headers=PAGE).status_code == 200  # work


def test_an_audience_for_tokens_of_others_does_not_hold_for_the_login_s_own(tmp_path, idp, oidc):
    idp.id_claims, idp.access_claims = {"roles": None}, {"aud": None, "azp": CLIENT}
    with serving(tmp_path, web={"oidc": {**oidc, "audience": "pacs"}}) as node:
        assert log_in(node).status_code == 200
        token = {"Authorization": f"Bearer {idp.token(**idp.access_claims)}"}
        node.cookies.clear()
        assert node.get("/api/studies", headers=token).status_code == 401


@pytest.mark.parametrize("access", [{"sub": "u-18"}, {"aud": "other"}, {"exp": 1}])
def test_an_access_token_that_is_not_the_user_s_gives_no_role(node, idp, access):
    idp.id_claims, idp.access_claims = {"roles": None}, access
    answer = log_in(node)
    assert answer.status_code == 403
    assert "the claim roles is missing" in answer.text


@pytest.mark.parametrize(("error", "status"), [("access_denied", 400), ("server_error", 503)])
def test_a_refusal_of_the_provider_is_shown(node, idp, error, status):
    idp.error = error
    assert log_in(node).status_code == status
    assert node.get("/jobs").status_code == 401


def test_without_a_role_the_page_says_why_and_nobody_is_logged_in(node, idp, tmp_path):
    idp.user["roles"] = ["nurse"]
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        answer = log_in(node)
        idp.user["roles"] = ["read"]
        log_in(node)
    finally:
        audit.stop()
    assert answer.status_code == 403
    assert "no value of the claim roles means one" in answer.text
    assert '<a href="/login?left=1">Log in</a>' in answer.text  # not a page that asks again unseen
    assert "<nav" not in answer.text  # without the links of those who are logged in
    refused, accepted = trail.read_text().splitlines()
    assert "berta" in refused
    assert "no value of the claim roles" in refused
    assert "berta" in accepted
    assert node.get("/jobs").status_code == 200


@pytest.mark.parametrize("methods", [None, ["client_secret_post"], ["client_secret_basic"]])
def test_the_node_names_itself_as_the_provider_wants_it(tmp_path, idp, oidc, methods):
    idp.discovery = {"token_endpoint_auth_methods_supported": methods} if methods else {}
    idp.takes_basic = methods != ["client_secret_post"]
    with serving(tmp_path, web={"oidc": oidc}) as node:
        assert log_in(node).status_code == 200


def test_a_public_client_has_pkce_alone(tmp_path, idp):
    idp.public = True
    with serving(tmp_path, web={"oidc": {"issuer": idp.issuer, "client_id": CLIENT}}) as node:
        assert log_in(node).status_code == 200


def test_a_secret_in_a_file_is_read_at_each_login(tmp_path, idp, capfd):
    file = tmp_path / "secret"
    oidc = {"issuer": idp.issuer, "client_id": CLIENT, "client_secret_file": str(file)}
    with serving(tmp_path / "data", web={"oidc": oidc}) as node:
        assert log_in(node).status_code == 503
        assert str(file) in capfd.readouterr().err
        file.write_text("old", encoding="utf-8")
        assert log_in(node).status_code == 503  # invalid_client: the administrator's, not hers
        file.write_text(SECRET + "\n", encoding="utf-8")
        assert log_in(node).status_code == 200


def test_a_provider_that_is_away_is_said_in_one_sentence(tmp_path):
    oidc = {"issuer": "http://127.0.0.1:9", "client_id": CLIENT}
    with serving(tmp_path, web={"oidc": oidc}) as node:
        answer = node.get("/login/oidc", headers=PAGE)
        assert answer.status_code == 503
        assert "the identity provider cannot be asked now" in answer.text


def test_logins_that_fail_are_bounded(node):
    location = at_provider(begin(node))
    for _ in range(MAX_FAILURES):
        assert come_back(node, location, code="guessed").status_code == 400
        begin(node)
        location = at_provider(begin(node))
    answer = come_back(node, location)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 50


def test_a_page_of_others_cannot_use_up_the_logins_of_an_address(node):
    for _ in range(MAX_FAILURES_OF_ADDRESS + 1):
        node.cookies.clear()
        assert node.get("/login/oidc/return?code=a&state=b").status_code == 400
    assert log_in(node).status_code == 200


def test_a_user_has_not_the_name_of_logins_that_failed(node, idp):
    idp.user["preferred_username"] = UNNAMED
    log_in(node)
    page = node.get("/jobs", headers=PAGE)
    assert f'<span class="user">{UNNAMED} (127.0.0.1)</span>' in page.text


def test_passwords_and_the_provider_are_both_offered(tmp_path, idp, oidc):
    users = [f"anna:{hash_password(PASSWORD)}"]
    with serving(tmp_path, web={"oidc": oidc, "users": users}) as node:
        page = node.get("/login?next=/jobs", headers=PAGE)
        assert 'href="/login/oidc?next=/jobs"' in page.text
        assert 'name="password"' in page.text
        form = {"name": "anna", "password": PASSWORD}
        assert node.post("/login", data=form, follow_redirects=False).status_code == 303
        node.cookies.clear()
        idp.user["preferred_username"] = "anna"  # another person
        log_in(node)
        page = node.get("/jobs", headers=PAGE)
        assert '<span class="user">anna (127.0.0.1)</span>' in page.text


def csrf(node):
    return node.get("/jobs", headers=PAGE).text.split('data-csrf="')[1].split('"')[0]


def test_a_session_of_the_provider_is_protected_as_any_other(node):
    log_in(node)
    assert node.post("/api/echo", json={"peer": "X"}).status_code == 403
    headers = {"X-CSRF-Token": csrf(node)}
    assert node.post("/api/echo", json={"peer": "X"}, headers=headers).status_code not in (401, 403)


def test_a_logout_ends_the_session_at_the_provider_too(node, idp):
    log_in(node)
    target = node.post("/logout", headers={"X-CSRF-Token": csrf(node)}).headers["hx-redirect"]
    assert node.get("/jobs").status_code == 401
    assert at_provider(target) == f"{HOME}/login"
    (asked,) = idp.logouts
    assert asked["client_id"] == CLIENT
    assert asked["id_token_hint"].count(".") == 2


def test_a_long_token_makes_no_header_that_a_proxy_would_refuse(node, idp):
    idp.user["groups"] = ["0123456789abcdef" * 2] * 200
    log_in(node)
    target = node.post("/logout", headers={"X-CSRF-Token": csrf(node)}).headers["hx-redirect"]
    assert len(target) < 3000
    assert "id_token_hint" not in target
    assert parse_qs(urlsplit(target).query)["client_id"] == [CLIENT]


def test_without_a_logout_there_the_page_does_not_log_in_again_by_itself(tmp_path, idp, oidc):
    idp.discovery = {"end_session_endpoint": ""}
    with serving(tmp_path, web={"oidc": oidc}) as node:
        log_in(node)
        target = node.post("/logout", headers={"X-CSRF-Token": csrf(node)}).headers["hx-redirect"]
        page = node.get(target, headers=PAGE, follow_redirects=False)
        assert page.status_code == 200
        assert 'href="/login/oidc?next=/"' in page.text
        assert 'name="password"' not in page.text


def change(node, **oidc):
    settings = node.app.state.web.settings
    changed = settings.web.oidc.model_copy(update=oidc)
    web = settings.web.model_copy(update={"oidc": changed})
    renew(node.app, settings.model_copy(update={"web": web}))


def test_a_reload_holds_for_those_who_are_logged_in(node):
    log_in(node)
    assert node.get("/upload", headers=PAGE).status_code == 200
    change(node, roles=("work:read",))
    assert node.get("/upload", headers=PAGE).status_code == 403
    change(node, roles=("other:read",))
    assert node.get("/jobs").status_code == 401


@pytest.mark.parametrize("change_to", [{"client_id": "other"}, {"issuer": "http://127.0.0.1:9"}])
def test_another_provider_ends_the_sessions_of_the_old_one(node, change_to):
    log_in(node)
    change(node, **change_to)
    assert node.get("/jobs").status_code == 401


def test_a_session_lasts_as_long_as_it_is_set_and_no_longer(tmp_path, idp, oidc, monkeypatch):
    with serving(tmp_path, web={"oidc": {**oidc, "session_s": 120.0}}) as node:
        log_in(node)
        access = node.app.state.web.access
        (session,) = access._sessions._sessions.values()
        assert 100 < session.until - time.monotonic() <= 120
        session.until = time.monotonic() - 1
        assert node.get("/jobs").status_code == 401


def test_without_a_client_id_the_page_offers_no_login_there(tmp_path, idp):
    with serving(tmp_path, web={"oidc": {"issuer": idp.issuer, "audience": "a"}}) as node:
        assert node.get("/login", headers=PAGE).status_code == 200
        assert node.get("/login/oidc", headers=PAGE).status_code == 404


def test_nothing_is_kept_of_logins_that_only_begin(node):
    for _ in range(5):
        begin(node)
    found = node.app.state.web.access.provider._sign_in
    assert len(found._used) == 0


def test_the_challenge_is_the_digest_of_the_verifier(node, idp, monkeypatch):
    seen = {}
    exchanged = idp.exchanged

    def note(form, authorization):
        seen.update(form)
        return exchanged(form, authorization)

    monkeypatch.setattr(idp, "exchanged", note)
    log_in(node)
    assert 43 <= len(seen["code_verifier"]) <= 128
    digest = hashlib.sha256(seen["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert idp.logins[-1]["code_challenge"] == challenge
    assert seen["grant_type"] == "authorization_code"
