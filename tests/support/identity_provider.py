"""A small identity provider (OpenID Connect) over a real socket, with its faults to choose.

It logs in whoever it is told to (`user`), after a click on its page when `asks` is set. It checks
what a client sends as strictly as a provider should: redirect URI, PKCE, secret, a code only once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

CLIENT = "lfscp"
SECRET = "s3cret & more"  # noqa: S105 - of a test


class SigningKey:
    """A key of the provider, made for one algorithm."""

    def __init__(self, kid: str, algorithm: str = "RS256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self._bits = bits
        self._made: Any = None
        self._making = threading.Lock()

    @property
    def private(self) -> Any:
        """Made when first asked for: an RSA key takes long, and each process loads all tests."""
        with self._making:
            if self._made is None:
                self._made = self._make()
        return self._made

    def _make(self) -> Any:
        if self.algorithm == "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        if self.algorithm.startswith("ES"):
            curves = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
            return ec.generate_private_key(curves[self.algorithm]())
        return rsa.generate_private_key(65537, self._bits)

    def public_jwk(self) -> dict[str, Any]:
        """The public key as in a JWK set, with the algorithm's name as some providers do."""
        to_jwk = get_default_algorithms()[self.algorithm].to_jwk  # type: ignore[attr-defined]
        found = json.loads(to_jwk(self.private.public_key()))
        return {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def public_pem(self) -> bytes:
        """The public key as text, as an attacker has it."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class IdentityProvider:
    """A provider and what it does; tests change the attributes while it runs.

    Attributes:
        keys: published; the first signs.
        user: claims of whoever logs in.
        id_claims, access_claims: added to tokens of a login, or in their place.
        discovery: added to its document, or in its place.
        asks: whether its page waits for a click.
        public: whether the client has no secret.
        takes_basic: whether the secret comes in a header (client_secret_basic), not in the form.
        silent_s: how long each answer waits.
        piece: bytes that come at once, twenty times a second; 0 sends all of them.
        asked: how often each path was asked.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys = [SigningKey("first")]
        self.user: dict[str, Any] = {
            "sub": "u-17",
            "preferred_username": "berta",
            "roles": ["work"],
        }
        self.id_claims: dict[str, Any] = {}
        self.access_claims: dict[str, Any] = {}
        self.discovery: dict[str, Any] = {}
        self.body_of_keys: bytes | None = None
        self.asks = False
        self.public = False
        self.takes_basic = True
        self.silent_s = 0.0
        self.piece = 0
        self.error = ""
        self.asked: dict[str, int] = {}
        self.logins: list[dict[str, str]] = []  # what /authorize was asked
        self.logouts: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}

    def token(self, key: SigningKey | None = None, **claims: Any) -> str:
        """An access token of the user; a claim of None is left out."""
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": CLIENT, "exp": now + 300, "iat": now, **self.user}
        return self.signed({**usual, **claims}, key)

    def signed(self, claims: dict[str, Any], key: SigningKey | None = None, **headers: Any) -> str:
        """Claims as a token."""
        key = key or self.keys[0]
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(given, key.private, key.algorithm, {"kid": key.kid, **headers})

    # What it answers

    def configuration(self) -> dict[str, Any]:
        """The discovery document."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "end_session_endpoint": f"{self.issuer}/logout",
            **self.discovery,
        }

    def authorized(self, query: dict[str, str]) -> str:
        """Where the browser goes after the login."""
        self.logins.append(query)
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"], "iss": self.issuer}
        if self.error:
            return f"{query['redirect_uri']}?{urlencode({**back, 'error': self.error})}"
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({**back, 'code': code})}"

    def exchanged(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of the token endpoint."""
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or challenge != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant", "error_description": "no such code"}
        access = self.token(**self.access_claims)
        id_token = self.token(**{"nonce": asked["nonce"], **self.id_claims})
        return 200, {"token_type": "Bearer", "access_token": access, "id_token": id_token}

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if self.public:
            return form.get("client_id") == CLIENT and not authorization
        if not self.takes_basic:
            if "client_secret" not in form or authorization:
                return False
            return (form["client_id"], form["client_secret"]) == (CLIENT, SECRET)
        pair = f"{quote(CLIENT, safe='')}:{quote(SECRET, safe='')}"  # RFC 6749 section 2.3.1
        return authorization == f"Basic {base64.b64encode(pair.encode()).decode()}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    provider: IdentityProvider

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer documents and pages."""
        provider, path = self._begin()
        query = dict(parse_qsl(urlsplit(self.path).query))
        if path == "/.well-known/openid-configuration":
            self._send(200, json.dumps(provider.configuration()).encode())
        elif path == "/keys":
            listed = {"keys": [each.public_jwk() for each in provider.keys]}
            self._send(200, provider.body_of_keys or json.dumps(listed).encode())
        elif path == "/authorize" and provider.asks:
            go = f'<a href="/go?{urlencode(query).replace("&", "&amp;")}">Log in as berta</a>'
            page = f"<!doctype html><title>Provider</title><link rel=icon href=data:,>{go}"
            self._send(200, page.encode(), "text/html")
        elif path in ("/authorize", "/go"):
            self._redirect(provider.authorized(query))
        elif path == "/logout":
            provider.logouts.append(query)
            self._redirect(query["post_logout_redirect_uri"])
        elif path == "/elsewhere":
            self._redirect(f"{provider.issuer}/keys")
        else:
            self._send(404, b"{}")

    def do_POST(self) -> None:
        """Answer the token endpoint."""
        provider, _ = self._begin()
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        status, answer = provider.exchanged(form, self.headers.get("authorization", ""))
        self._send(status, json.dumps(answer).encode())

    def _begin(self) -> tuple[IdentityProvider, str]:
        path = urlsplit(self.path).path
        self.provider.asked[path] = self.provider.asked.get(path, 0) + 1
        time.sleep(self.provider.silent_s)
        return self.provider, path

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("location", target)
        self.end_headers()

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # whoever asked has had enough
            for at in range(0, len(body), self.provider.piece or len(body)):
                self.wfile.write(body[at : at + (self.provider.piece or len(body))])
                time.sleep(0.05 if self.provider.piece else 0)


@contextmanager
def identity_provider(
    host: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None
) -> Iterator[IdentityProvider]:
    """A provider at a port of its own.

    Args:
        host: how it calls itself.
        tls: makes it answer with TLS.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), _Answers)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls is not None else "http"
    provider = IdentityProvider(f"{scheme}://{host}:{server.server_address[1]}")
    server.RequestHandlerClass = type("Answers", (_Answers,), {"provider": provider})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
