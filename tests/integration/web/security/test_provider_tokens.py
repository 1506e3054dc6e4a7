"""Tokens of an identity provider: which prove something, and what is said of those that do not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from lfscp.config.oidc import OIDC
from lfscp.config.passwords import new_token
from lfscp.observe import audit
from lfscp.web.app import renew
from lfscp.web.security.oidc import provider as provider_module
from lfscp.web.security.oidc import tokens as tokens_module
from lfscp.web.security.oidc.documents import fetch
from lfscp.web.security.oidc.errors import ProviderAwayError, TokenRefusedError
from lfscp.web.security.oidc.keys import ALGORITHMS, read_keys
from lfscp.web.security.oidc.provider import AGAIN_S, FRESH_S, Provider
from lfscp.web.security.oidc.tokens import Tokens
from tests.support.certificates import Authority
from tests.support.identity_provider import CLIENT, SigningKey, identity_provider
from tests.support.still_clock import StillClock
from tests.support.web_app import serving

KEYS = {each: SigningKey(f"key-{each}", each) for each in sorted(ALGORITHMS)}


@pytest.fixture
def idp():
    with identity_provider() as provider:
        provider.keys = [KEYS["RS256"]]
        yield provider


def settings_of(idp, **more):
    return OIDC.model_validate({"issuer": idp.issuer, "client_id": CLIENT, **more})


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def provider(idp, clock):
    return Provider(settings_of(idp), clock)


@pytest.fixture
def tokens(idp, provider):
    return Tokens(settings_of(idp), provider)


def refusal(tokens, token):
    with pytest.raises(TokenRefusedError) as caught:
        tokens.bearer(token)
    return str(caught.value)


def from_now(claims):
    """Claims whose whole numbers are seconds from now."""
    now = int(time.time())
    return {name: now + value if type(value) is int else value for name, value in claims.items()}


def as_bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_with_a_public_key_is_verified(idp, tokens, algorithm):
    idp.keys = list(KEYS.values())

    verified = tokens.bearer(idp.token(KEYS[algorithm]))

    assert (verified.name, verified.values) == ("berta", ("work",))
    other = SigningKey(f"key-{algorithm}", algorithm)  # the same name, another key
    assert refusal(tokens, idp.token(other)) == "its signature is wrong"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": -120}, "it has expired"),
        ({"exp": None}, "it has no exp"),
        ({"exp": "soon"}, "it is malformed"),
        ({"exp": float("inf")}, "it is malformed"),
        ({"nbf": +600}, "it is not valid yet; compare the clocks"),
        ({"iat": +600}, "it is not valid yet; compare the clocks"),
        ({"iss": "https://other.example"}, "its issuer (iss) is not"),
        ({"iss": None}, "it has no iss"),
        ({"aud": "other"}, "it is not for lfscp (aud)"),
        ({"aud": ["a", "b"]}, "it is not for lfscp (aud)"),
        ({"aud": None}, "it is not for lfscp (aud)"),
        ({"aud": "other", "azp": "other"}, "it is not for lfscp (aud)"),
        ({"typ": "ID"}, "it is no access token"),
        ({"cnf": {"jkt": "x"}}, "it is bound to a key (cnf)"),
        ({"sub": None, "preferred_username": None}, "it names no user (sub)"),
    ],
)
def test_claims_that_are_wrong_are_named(idp, tokens, claims, reason):
    assert refusal(tokens, idp.token(**from_now(claims))).startswith(reason)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": -30},  # clocks differ
        {"nbf": +30},
        {"aud": ["account", CLIENT]},
        {"aud": "account", "azp": CLIENT},  # Keycloak's usual way
    ],
)
def test_a_minute_between_clocks_and_azp_instead_of_aud_are_accepted(idp, tokens, claims):
    assert tokens.bearer(idp.token(**from_now(claims))).name == "berta"


def test_an_audience_that_is_set_must_be_there_and_azp_does_not_do(idp, provider):
    tokens = Tokens(settings_of(idp, audience="pacs"), provider)
    assert tokens.bearer(idp.token(aud=["account", "pacs"])).name == "berta"
    assert refusal(tokens, idp.token(aud="account", azp=CLIENT)) == "it is not for pacs (aud)"


def encoded(part):
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def forged(header, claims, sign=lambda _: b""):
    """A token that nobody signed, or somebody else."""
    signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


def test_a_token_without_a_signature_or_signed_with_the_public_key_is_refused(idp, tokens):
    claims = {"iss": idp.issuer, "aud": CLIENT, "exp": int(time.time()) + 99, "sub": "x"}
    kid = idp.keys[0].kid
    for name in ("none", "None", "NONE", ""):
        token = forged({"alg": name, "kid": kid}, claims)
        assert refusal(tokens, token) == "its algorithm (alg) is not accepted"
    for name in ("HS256", "HS384", "HS512"):
        for secret in (idp.keys[0].public_pem(), idp.keys[0].public_pem().strip()):
            digest = name.replace("HS", "sha")
            made = forged(
                {"alg": name, "kid": kid},
                claims,
                lambda s, k=secret, d=digest: hmac.digest(k, s, d),
            )
            assert refusal(tokens, made) == "its algorithm (alg) is not accepted"


def test_an_algorithm_that_is_not_the_key_s_is_refused(idp, tokens):
    assert tokens.bearer(idp.token()).name == "berta"  # the key says RS256
    header = {"alg": "PS256", "kid": idp.keys[0].kid}
    assert refusal(tokens, forged(header, {})) == "the identity provider has no key for it"


def test_a_claim_that_was_changed_breaks_the_signature(idp, tokens):
    head, _, signature = idp.token().split(".")
    claims = {"iss": idp.issuer, "aud": CLIENT, "exp": int(time.time()) + 99, "roles": ["admin"]}
    changed = f"{head}.{encoded(json.dumps(claims).encode())}.{signature}"
    assert refusal(tokens, changed) == "its signature is wrong"


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "e30.e30.e30",
        f"{encoded(b'[]')}.e30.",
        f"{encoded(b'[' * 6000)}.e30.e30",
        encoded(b'{"alg": ["RS256"]}') + ".e30.e30",
        encoded(b'{"alg": "RS256", "kid": {}}') + ".e30.e30",
        "ä.ö.ü",
        f"{encoded(b'{}')}." + "A" * 20_000 + ".x",
    ],
)
def test_rubbish_is_refused_in_words(tokens, token):
    assert refusal(tokens, token)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"typ": "logout+jwt"}, "it is no access token (typ, crit)"),
        ({"typ": "dpop+jwt"}, "it is no access token (typ, crit)"),
        ({"crit": ["exp"]}, "it is malformed"),  # nobody knows this extension
    ],
)
def test_a_token_for_another_use_is_refused(idp, tokens, header, reason):
    claims = {"iss": idp.issuer, "aud": CLIENT, "exp": int(time.time()) + 99, "sub": "x"}
    assert refusal(tokens, idp.signed(claims, **header)) == reason
    assert tokens.bearer(idp.signed(claims, typ="at+jwt")).name == "x"


def test_keys_that_are_weak_private_secret_or_for_encryption_are_left_out():
    good = KEYS["ES256"].public_jwk()
    weak = SigningKey("weak", bits=1024).public_jwk()
    rsa = KEYS["RS256"].public_jwk()
    odd = [
        weak,
        {**rsa, "use": "enc"},
        {**rsa, "d": "AQAB"},
        {"kty": "oct", "kid": "o", "k": "c2VjcmV0"},
        {**rsa, "n": "!!"},
        {**good, "crv": "secp256k1"},
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": ["P-256"]},
        "no key",
        None,
    ]
    assert [each.kid for each in read_keys({"keys": [*odd, good]})] == ["key-ES256"]
    for none in ({"keys": odd}, {"keys": []}, {"keys": {}}, {}):
        with pytest.raises(ProviderAwayError, match="no keys that can be used"):
            read_keys(none)


def test_without_a_name_the_only_fitting_key_is_taken_and_of_two_none(idp, tokens, clock):
    key = SigningKey("", "RS256")
    idp.keys = [key, KEYS["ES256"]]
    assert tokens.bearer(idp.token(key)).name == "berta"
    clock.now += AGAIN_S
    idp.keys = [key, KEYS["RS256"]]
    clock.now += FRESH_S
    renewed = Tokens(settings_of(idp), Provider(settings_of(idp), clock))
    assert refusal(renewed, idp.token(key)) == "the identity provider has no key for it"


def test_a_new_key_is_fetched_at_once_and_unknown_ones_do_not_flood_the_provider(
    idp, tokens, clock
):
    tokens.bearer(idp.token())
    assert idp.asked["/keys"] == 1
    clock.now += AGAIN_S
    idp.keys = [KEYS["ES256"], KEYS["RS256"]]
    assert tokens.bearer(idp.token()).name == "berta"
    assert idp.asked["/keys"] == 2
    stranger = SigningKey("stranger", "ES256")
    for _ in range(20):
        assert refusal(tokens, idp.token(stranger)) == "the identity provider has no key for it"
    assert idp.asked["/keys"] == 2
    clock.now += AGAIN_S
    for _ in range(20):
        refusal(tokens, idp.token(stranger))
    assert idp.asked["/keys"] == 3


def test_a_key_that_is_withdrawn_ends_tokens_that_were_verified_before(idp, provider, clock):
    tokens = Tokens(settings_of(idp), provider)
    token = idp.token()
    assert tokens.bearer(token).is_new
    assert not tokens.bearer(token).is_new
    idp.keys = [KEYS["ES256"]]
    clock.now += FRESH_S + 1
    tokens.bearer(token)  # fetches in the background
    provider._background.join(10)
    assert refusal(tokens, token) == "the identity provider has no key for it"


def test_a_remembered_token_ends_with_its_time(idp, tokens, monkeypatch):
    token = idp.token(exp=int(time.time()) + 30)
    assert tokens.bearer(token).is_new
    assert not tokens.bearer(token).is_new
    later = time.time() + 91

    class Later:
        @staticmethod
        def time():
            return later

    monkeypatch.setattr(tokens_module, "time", Later)
    assert tokens.bearer(token).is_new  # looked at anew: the library has its own clock


def test_old_keys_hold_while_the_provider_is_away_and_it_is_said_once(idp, provider, clock, capfd):
    tokens = Tokens(settings_of(idp), provider)
    tokens.bearer(idp.token())
    idp.body_of_keys = b"<html>maintenance</html>"
    for _ in range(3):
        clock.now += FRESH_S + 1
        assert tokens.bearer(idp.token()).name == "berta"
        provider._background.join(10)
    assert idp.asked["/keys"] == 4
    logged = capfd.readouterr().err
    assert logged.count("the identity provider does not answer") == 1
    assert "its answer is no JSON object" in logged
    assert "known keys hold until it does" in logged
    idp.body_of_keys = None
    clock.now += AGAIN_S
    tokens.bearer(idp.token())
    provider._background.join(10)
    assert "the identity provider answers again" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"body_of_keys": b"[" * 100_000}, "no JSON object"),
        ({"body_of_keys": b'{"keys": [' + b" " * (600 << 10) + b"]}"}, "more than 512 kB"),
        ({"body_of_keys": b"[]"}, "no JSON object"),
        ({"discovery": {"issuer": "https://other.example"}}, "its own name is another one"),
        ({"discovery": {"jwks_uri": "file:///etc/passwd"}}, "its jwks_uri is no URL with https"),
        ({"discovery": {"jwks_uri": "http://192.0.2.1/"}}, "its jwks_uri is no URL with https"),
        ({"discovery": {"token_endpoint": 7}}, "its token_endpoint is no URL with https"),
        ({"discovery": {"jwks_uri": ""}}, "an address without TLS"),
    ],
)
def test_documents_that_are_wrong_are_named_and_bounded(idp, provider, fault, reason):
    for name, value in fault.items():
        setattr(idp, name, value)
    with pytest.raises(ProviderAwayError, match=reason):
        provider.known()


def test_redirects_are_not_followed(idp, provider):
    idp.discovery = {"jwks_uri": f"{idp.issuer}/elsewhere"}
    with pytest.raises(ProviderAwayError, match="it answers 302"):
        provider.known()
    assert "/keys" not in idp.asked


def test_a_silent_provider_holds_up_a_few_and_the_others_are_told_at_once(
    idp, provider, monkeypatch
):
    monkeypatch.setattr("lfscp.web.security.oidc.documents.SILENCE_S", 0.5)
    idp.silent_s = 1.0
    ends = []

    def ask():
        try:
            provider.known()
        except ProviderAwayError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert len(ends) == 30
    assert set(ends) <= {"no answer within 0 s", "too many requests wait for it"}
    assert ends.count("too many requests wait for it") >= 30 - provider_module.MAX_WAITING
    assert idp.asked == {"/.well-known/openid-configuration": 1}


def test_a_head_that_comes_byte_by_byte_is_left_after_a_while(monkeypatch):
    monkeypatch.setattr("lfscp.web.security.oidc.documents.WHOLE_S", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    is_left = threading.Event()

    def drip():
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                connection.sendall(b"a")
                time.sleep(0.05)
        is_left.set()

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    with listener, pytest.raises(ProviderAwayError, match="its answer takes more than"):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/keys")
    assert is_left.wait(10)


@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint", "authorization_endpoint"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:6379/", "https://localhost/", "http://[::1]/"])
def test_a_provider_elsewhere_names_no_service_of_this_machine(idp, monkeypatch, name, url):
    elsewhere = "https://idp.example.org"
    document = {**idp.configuration(), "issuer": elsewhere, name: url}
    for other in {"jwks_uri", "token_endpoint", "authorization_endpoint"} - {name}:
        document[other] = f"{elsewhere}/{other}"
    document["end_session_endpoint"] = f"{elsewhere}/logout"
    keys = {"keys": [KEYS["RS256"].public_jwk()]}
    asked = []

    def answer(url, *_):
        asked.append(url)
        return document if url.endswith("configuration") else keys

    monkeypatch.setattr(provider_module, "fetch", answer)
    provider = Provider(OIDC.model_validate({"issuer": elsewhere, "client_id": CLIENT}))
    with pytest.raises(ProviderAwayError, match=f"its {name} is on this machine"):
        provider.known()
    assert url not in asked


def test_a_token_that_never_expires_is_taken_as_long_as_its_key_is(idp, tokens):
    token = idp.token(exp=10**400)
    assert tokens.bearer(token).is_new
    assert not tokens.bearer(token).is_new


def test_an_answer_that_never_ends_is_left_after_a_while(idp, provider, monkeypatch):
    monkeypatch.setattr("lfscp.web.security.oidc.documents.WHOLE_S", 0.2)
    idp.piece = 5
    with pytest.raises(ProviderAwayError, match="its answer takes more than"):
        provider.known()


def test_tls_is_verified_with_the_authority_that_is_named(tmp_path):
    import ssl

    authority = Authority(tmp_path / "ours")
    certificate = authority.issue("idp")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.file, certificate.key)
    other = Authority(tmp_path / "other", "other")
    with identity_provider(tls=tls) as idp:
        idp.keys = [KEYS["RS256"]]
        right = settings_of(idp, ca_file=str(authority.file))
        assert Tokens(right, Provider(right)).bearer(idp.token()).name == "berta"
        for ca_file in ("", str(other.file)):
            with pytest.raises(ProviderAwayError, match="its certificate is not valid"):
                Provider(settings_of(idp, ca_file=ca_file)).known()


# In the application


def change(node, **oidc):
    """Have the node read settings again in which these have changed."""
    settings = node.app.state.web.settings
    changed = settings.web.oidc.model_copy(update=oidc)
    web = settings.web.model_copy(update={"oidc": changed})
    renew(node.app, settings.model_copy(update={"web": web}))


@pytest.fixture
def oidc(idp):
    return {"issuer": idp.issuer, "client_id": CLIENT}


@pytest.fixture
def node(tmp_path, oidc):
    token, hashed = new_token()
    with serving(tmp_path, web={"oidc": oidc, "tokens": [f"script:read:{hashed}"]}) as client:
        client.token = token
        client.app.state.web.access.provider._provider._background.join(10)
        yield client


def test_a_token_of_the_provider_and_one_of_this_node_hold_side_by_side(node, idp):
    for token in (idp.token(), node.token):
        assert node.get("/api/studies", headers=as_bearer(token)).status_code == 200
        assert node.get("/dicom-web/studies", headers=as_bearer(token)).status_code in (200, 204)
    assert node.get("/api/studies").status_code == 401


def test_a_token_of_this_node_needs_no_provider(node, idp):
    before = dict(idp.asked)
    assert node.get("/api/studies", headers=as_bearer(node.token)).status_code == 200
    assert idp.asked == before


@pytest.mark.parametrize(
    ("roles", "statuses"),
    [(["read"], (200, 403)), (["work"], (200, 403)), (["admin", "read"], (200, 404))],
)
def test_the_claim_says_what_a_user_may_do(node, idp, roles, statuses):
    headers = as_bearer(idp.token(roles=roles))
    asked = (
        node.get("/api/studies", headers=headers),
        node.delete("/api/studies/1.2", headers=headers),
    )
    assert tuple(each.status_code for each in asked) == statuses


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (["nurse"], "no value of the claim roles means one"),
        ([], "no value of the claim roles means one"),
        (None, "the claim roles is missing"),
        ({"read": True}, "no value of the claim roles means one"),
        ([["read"], 7], "no value of the claim roles means one"),
        ("no admin", "no value of the claim roles means one"),
    ],
)
def test_without_a_role_the_answer_is_403_with_the_reason(node, idp, roles, reason):
    token = idp.token(roles=roles)
    for _ in range(2):  # the second time it is remembered
        answer = node.get("/api/studies", headers=as_bearer(token))
        assert answer.status_code == 403
        assert reason in answer.json()["detail"]


def test_too_many_groups_are_told_from_none(node, idp):
    token = idp.token(roles=None, _claim_names={"roles": "src1"})
    answer = node.get("/api/studies", headers=as_bearer(token))
    assert "left out the claim roles, since it has too many values" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("oidc_more", "claims", "status"),
    [
        ({"role_claim": "realm_access.roles"}, {"realm_access": {"roles": ["read"]}}, 200),
        (
            {"role_claim": "resource_access.a.b.roles"},
            {"resource_access": {"a.b": {"roles": ["read"]}}},
            200,
        ),
        ({"role_claim": "https://x.example/roles"}, {"https://x.example/roles": ["read"]}, 200),
        ({"role_claim": "scope"}, {"scope": "openid read"}, 200),
        ({"role_claim": "groups", "roles": ["/Radiology:read"]}, {"groups": ["/Radiology"]}, 200),
        ({"role_claim": "groups", "roles": ["/Radiology:read"]}, {"groups": ["read"]}, 403),
        ({"role_claim": "a.b"}, {"a": "b"}, 403),
    ],
)
def test_claims_of_every_provider_can_be_mapped(tmp_path, idp, oidc, oidc_more, claims, status):
    with serving(tmp_path, web={"oidc": {**oidc, **oidc_more}}) as node:
        headers = as_bearer(idp.token(**{"roles": None, **claims}))
        assert node.get("/api/studies", headers=headers).status_code == status


def test_a_refused_token_is_answered_logged_and_recorded_with_its_reason(
    node, idp, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("lfscp.web.security.refusals._said", {})
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        answer = node.get("/api/studies", headers=as_bearer(idp.token(exp=1)))
        node.get("/api/studies", headers=as_bearer(idp.token()))
    finally:
        audit.stop()
    assert answer.status_code == 401
    assert answer.json()["detail"] == "the token is refused: it has expired"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    lines = [each for each in capfd.readouterr().err.splitlines() if "it has expired" in each]
    assert len(lines) == 1
    refused, accepted = trail.read_text().splitlines()
    assert "it has expired" in refused
    assert "berta" in accepted


def test_wrong_tokens_are_bounded_and_never_hold_up_a_right_one(node, idp):
    wrong = as_bearer(idp.token(exp=1))
    statuses = [node.get("/api/studies", headers=wrong).status_code for _ in range(55)]
    assert statuses.count(401) == 50
    assert statuses[-1] == 429
    assert node.get("/api/studies", headers=as_bearer(idp.token())).status_code == 200


def test_a_provider_that_is_away_at_the_start_lets_the_node_start(tmp_path, oidc, capfd):
    away = {**oidc, "issuer": "http://127.0.0.1:9"}
    token, hashed = new_token()
    with serving(tmp_path, web={"oidc": away, "token_hash": hashed}) as node:
        node.app.state.web.access.provider._provider._background.join(10)
        answers = [node.get("/api/studies", headers=as_bearer("a.b.c")) for _ in range(3)]
        assert {each.status_code for each in answers} == {503}
        assert answers[0].headers["retry-after"] == "10"
        assert answers[0].json()["detail"].startswith("the identity provider cannot be asked now")
        assert node.get("/api/studies", headers=as_bearer(token)).status_code == 200
    logged = capfd.readouterr().err
    assert logged.count("the identity provider does not answer") == 1
    assert "Connection refused" in logged
    assert "Traceback" not in logged


def test_a_reload_changes_roles_and_keeps_the_keys(node, idp, oidc, tmp_path):
    headers = as_bearer(idp.token(roles=["nurse"]))
    assert node.get("/api/studies", headers=headers).status_code == 403
    change(node, roles=("nurse:read",))
    assert node.get("/api/studies", headers=headers).status_code == 200
    change(node, issuer="", client_id="")
    assert node.get("/api/studies", headers=headers).status_code == 401


def test_a_name_that_a_user_of_this_node_has_is_told_apart(node, idp, tmp_path):
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        for name in ("script", "page", "evil\nname"):
            headers = as_bearer(idp.token(preferred_username=name))
            assert node.get("/api/studies", headers=headers).status_code == 200
    finally:
        audit.stop()
    text = trail.read_text()
    assert "script (127.0.0.1)" in text
    assert "page (127.0.0.1)" in text
    assert "evil?name" in text


def test_remembered_tokens_are_bounded(idp, tokens, monkeypatch):
    monkeypatch.setattr(tokens_module, "MAX_REMEMBERED", 3)
    made = [idp.token(jti=str(number)) for number in range(5)]
    for each in made:
        tokens.bearer(each)
    assert len(tokens._remembered) == 3
    assert hashlib.sha256(made[-1].encode()).digest() in tokens._remembered
