"""Who gets in: names, origins, logins, tokens; and what every answer carries."""

from __future__ import annotations

import base64
import html

import pytest

from lfscp.config import Settings
from lfscp.config.passwords import hash_password, is_password, is_token, new_token
from lfscp.services.access.attempts import MAX_FAILURES
from lfscp.web.app import renew
from tests.support.web_app import serving

pytestmark = pytest.mark.usefixtures("quick_passwords")
PASSWORD = "correct horse"  # noqa: S105 - of a test


@pytest.fixture(scope="module")
def users():
    return [f"anna:{hash_password(PASSWORD)}"]


@pytest.fixture
def guarded(tmp_path, users):
    token, hashed = new_token()
    with serving(tmp_path, web={"users": users, "token_hash": hashed}) as client:
        client.token = token
        yield client


def log_in(client, **fields):
    form = {"name": "anna", "password": PASSWORD, **fields}
    return client.post("/login", data=form, headers={"Accept": "text/html"}, follow_redirects=False)


def csrf(client):
    page = client.get("/").text
    return page.split('data-csrf="')[1].split('"')[0]


def test_an_address_that_others_reach_needs_users_or_a_token():
    with pytest.raises(ValueError, match=r"token_hash or oidc\.issuer, since other machines can"):
        Settings.model_validate({"web": {"host": "0.0.0.0"}})  # noqa: S104 - what is refused
    Settings.model_validate({"web": {"host": "0.0.0.0", "enabled": False}})  # noqa: S104
    Settings.model_validate({"web": {"host": "0.0.0.0", "token_hash": new_token()[1]}})  # noqa: S104


def test_a_password_fits_its_own_hash_only_and_a_broken_hash_fits_none():
    hashed = hash_password(PASSWORD)

    assert is_password(PASSWORD, hashed)
    assert not is_password(PASSWORD + " ", hashed)
    assert hashed != hash_password(PASSWORD)  # salted
    for broken in ("", "scrypt$", "scrypt$3$8$1$AA==$AA==", "scrypt$x$8$1$AA==$AA==", "md5$1"):
        assert not is_password(PASSWORD, broken)
    assert not is_token("", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example"]
)
def test_on_loopback_the_page_answers_to_no_other_name(client, host):
    answer = client.get("/api/studies", headers={"Host": host})

    assert answer.status_code == 421
    assert answer.json()["title"] == "Misdirected Request"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_on_loopback_its_own_names_are_answered(client, host):
    assert client.get("/api/studies", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_can_change_nothing(client, headers):
    answer = client.post("/api/peers", json={}, headers=headers)

    assert answer.status_code == 403
    assert answer.json()["detail"] == "this request comes from a page of another site"


def test_our_own_page_and_scripts_can_change_things(client):
    peer = {"ae_title": "A", "host": "h", "port": 104}
    own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}

    assert client.post("/api/peers", json=peer, headers=own).status_code == 201
    assert client.post("/api/peers", json=peer).status_code == 201


def test_every_answer_carries_the_policy_and_no_inline_script_is_in_a_page(client):
    for path in (
        "/",
        "/remote",
        "/jobs",
        "/upload",
        "/node",
        "/api/docs",
        "/nothing",
        "/static/app.js",
    ):
        answer = client.get(path, headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "html" in answer.headers["content-type"]:
            assert "<script>" not in answer.text
            assert " style=" not in answer.text
            assert "http://" not in answer.text.replace("http://www.w3.org", "")
            assert "https://" not in answer.text


def test_without_a_login_pages_lead_to_it_and_data_is_refused(guarded):
    page = guarded.get("/jobs", headers={"Accept": "text/html"}, follow_redirects=False)
    data = guarded.get("/api/studies")

    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/jobs")
    assert data.status_code == 401
    assert data.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/login").status_code == 200


def test_letters_beyond_ascii_in_credentials_are_wrong_ones_and_no_error(guarded):
    basic = guarded.get("/api/studies", headers={"Authorization": "Basic \xe9".encode("latin-1")})
    log_in(guarded)
    token = guarded.post("/api/peers", json={}, headers={"X-CSRF-Token": "\xe9".encode("latin-1")})

    assert (basic.status_code, token.status_code) == (401, 403)


@pytest.mark.parametrize("host", ["x/static/?", "x/login?", "x/healthz#"])
def test_a_host_that_holds_an_open_path_opens_nothing(guarded, host):
    assert guarded.get("/api/studies", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/login/", "/healthz/", "/jobs/", "//jobs", "/dicom-web/studies/"]
)
def test_no_answer_leads_to_the_host_that_a_request_names(guarded, path):
    answer = guarded.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert "evil.example" not in answer.headers.get("location", "")


def test_with_a_login_a_proxy_may_call_the_page_by_any_name(guarded):
    bearer = {"Authorization": f"Bearer {guarded.token}", "Host": "pacs.example"}

    assert guarded.get("/api/studies", headers=bearer).status_code == 200
    log_in_page = {"Host": "pacs.example", "Origin": "https://pacs.example"}
    form = {"name": "anna", "password": PASSWORD}
    answer = guarded.post("/login", data=form, headers=log_in_page, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


def test_a_login_opens_the_page_until_the_logout(guarded):
    answer = log_in(guarded, next="/jobs")
    cookie = answer.headers["set-cookie"]

    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert guarded.get("/api/studies").status_code == 200

    guarded.post("/logout", headers={"X-CSRF-Token": csrf(guarded)})
    assert guarded.get("/api/studies").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", ""]
)
def test_a_login_leads_nowhere_else(guarded, target):
    assert log_in(guarded, next=target).headers["location"] == "/"


@pytest.mark.parametrize("fields", [{"password": "wrong"}, {"name": "nobody"}, {"name": ""}])
def test_a_wrong_login_is_refused_without_saying_what_was_wrong(guarded, fields):
    answer = log_in(guarded, **fields)

    assert answer.status_code == 401
    assert "the name or the password is wrong" in answer.text
    assert "set-cookie" not in answer.headers


def test_who_guesses_has_to_wait(guarded):
    for _ in range(MAX_FAILURES):
        assert log_in(guarded, password="wrong").status_code == 401  # noqa: S106 - of a test

    answer = log_in(guarded)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_with_a_session_a_change_needs_the_session_s_token(guarded):
    log_in(guarded)
    peer = {"ae_title": "A", "host": "h", "port": 104}

    assert guarded.post("/api/peers", json=peer).status_code == 403
    token = {"X-CSRF-Token": csrf(guarded)}
    assert guarded.post("/api/peers", json=peer, headers=token).status_code == 201


STUDIES = "/dicom-web/studies"
OURS = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("path", "headers", "passes"),
    [
        (STUDIES, {"Sec-Fetch-Site": "same-origin"}, True),
        (STUDIES, {"Sec-Fetch-Site": "same-origin", "Origin": OURS}, True),
        (STUDIES, {"Origin": OURS}, True),  # a browser that loaded the page without TLS
        (STUDIES, {}, False),
        (STUDIES, {"Sec-Fetch-Site": "none"}, False),
        (STUDIES, {"Sec-Fetch-Site": "same-site"}, False),
        (STUDIES, {"Sec-Fetch-Site": "same-site", "Origin": OURS}, False),
        (STUDIES, {"Origin": "http://127.0.0.1:8081"}, False),  # another port has the cookie too
        (STUDIES, {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8081"}, False),
        (STUDIES, {"Origin": "null"}, False),
        ("/api/instances", {"Sec-Fetch-Site": "same-origin"}, False),
        ("/dicom-webs", {"Sec-Fetch-Site": "same-origin"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_dicomweb_takes_a_session_without_its_token_from_a_page_of_the_same_origin_only(
    guarded, method, path, headers, passes
):
    log_in(guarded)
    target = f"{path}/1.2.3" if method == "DELETE" else path

    answer = guarded.request(method, target, headers=headers)

    assert (answer.status_code != 403) is passes, answer.text


def test_dicomweb_without_its_token_is_as_closed_as_ever_to_who_may_not_delete(tmp_path):
    with serving(tmp_path, web={"users": [f"rita:read:{hash_password(PASSWORD)}"]}) as client:
        log_in(client, name="rita")
        headers = {"Sec-Fetch-Site": "same-origin"}
        answers = [client.delete(f"{STUDIES}/1.2.3", headers=headers)]
        answers.append(client.post(STUDIES, headers=headers))

    assert [each.status_code for each in answers] == [403, 403]
    assert "role admin" in answers[0].json()["detail"]
    assert "role work" in answers[1].json()["detail"]


def test_a_login_leads_to_the_page_with_its_query(guarded):
    answer = guarded.get(
        "/?q=m%26m&modality=CT", headers={"Accept": "text/html"}, follow_redirects=False
    )
    form = guarded.get(answer.headers["location"]).text
    target = html.unescape(form.split('name="next" value="')[1].split('"')[0])
    after = log_in(guarded, next=target)

    assert after.headers["location"] == "/?q=m%26m&modality=CT"


def test_scripts_use_a_token_or_name_and_password(guarded):
    def status(**options):
        return guarded.get("/api/studies", **options).status_code

    assert status(headers={"Authorization": f"Bearer {guarded.token}"}) == 200
    assert status(headers={"Authorization": "Bearer wrong"}) == 401
    assert status(auth=("anna", PASSWORD)) == 200
    assert status(auth=("anna", "wrong")) == 401
    assert status(headers={"Authorization": "Basic %%%"}) == 401
    bearer = {"Authorization": f"Bearer {guarded.token}"}
    peer = {"ae_title": "A", "host": "h", "port": 104}
    assert guarded.post("/api/peers", json=peer, headers=bearer).status_code == 201


def renewed(client, **web):
    """The page's settings as SIGHUP leaves them."""
    settings = client.app.state.web.settings
    renew(client.app, settings.model_copy(update={"web": settings.web.model_copy(update=web)}))


def test_who_is_no_user_any_more_is_logged_out_at_once(guarded, users):
    basic = {"Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
    log_in(guarded)
    assert guarded.get("/api/studies").status_code == 200
    assert guarded.get("/api/studies", headers=basic).status_code == 200
    renewed(guarded, users=(f"berta:{hash_password(PASSWORD)}",))

    assert guarded.get("/api/studies").status_code == 401
    assert guarded.get("/api/studies", headers=basic).status_code == 401
    assert log_in(guarded).status_code == 401
    assert log_in(guarded, name="berta").status_code == 303
    renewed(guarded, users=tuple(users))
    assert guarded.get("/api/studies").status_code == 401


def test_another_password_ends_the_sessions_of_the_one_before(guarded):
    log_in(guarded)
    renewed(guarded, users=(f"anna:{hash_password('another')}",))

    assert guarded.get("/api/studies").status_code == 401
    assert log_in(guarded).status_code == 401
    assert log_in(guarded, password="another").status_code == 303  # noqa: S106


def test_another_role_counts_for_who_is_logged_in(guarded, users):
    log_in(guarded)
    token = {"X-CSRF-Token": csrf(guarded)}
    assert guarded.delete("/api/studies/1.2", headers=token).status_code == 404
    renewed(guarded, users=(users[0].replace("anna:", "anna:read:"),))

    assert guarded.delete("/api/studies/1.2", headers=token).status_code == 403
    assert guarded.get("/api/studies").status_code == 200


def test_tokens_change_and_wrong_passwords_stay_counted(guarded):
    bearer = {"Authorization": f"Bearer {guarded.token}"}
    assert guarded.get("/api/studies", headers=bearer).status_code == 200
    for _ in range(MAX_FAILURES):
        log_in(guarded, password="wrong")  # noqa: S106
    renewed(guarded, token_hash="")

    assert guarded.get("/api/studies", headers=bearer).status_code == 401
    assert log_in(guarded).status_code == 429


def test_a_page_that_others_reach_stays_closed_when_its_last_user_goes(tmp_path, users):
    with serving(tmp_path, web={"host": "0.0.0.0", "users": users}) as client:  # noqa: S104
        # The new configuration is for loopback, where the page listens after a restart.
        renewed(client, users=())

        assert client.get("/api/studies").status_code == 401


def test_a_page_without_users_asks_for_a_login_when_there_are_some(tmp_path, users):
    with serving(tmp_path) as client:
        assert client.get("/api/studies").status_code == 200
        renewed(client, users=tuple(users))

        assert client.get("/api/studies").status_code == 401
        assert log_in(client).status_code == 303
        assert client.get("/api/studies").status_code == 200
