"""Who may ask: Host, origin, login and token are decided here, before any route sees a request.

Rules: on a loopback address without users the page is open, but only under a loopback name, so
that a foreign page cannot reach it by DNS rebinding. As soon as users or a token are configured,
everything but the login, the style sheets and the health checks needs them. A request that
changes something must come from our own pages (or from no browser at all), and with a session it
must carry that session's token. Every answer carries a strict Content-Security-Policy.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from lfscp.config.checks import is_loopback
from lfscp.config.passwords import hash_password, is_password, is_token
from lfscp.config.settings import Web
from lfscp.observe import audit
from lfscp.web.problems import Problem

SESSION_COOKIE: Final = "lfscp_session"
SESSION_S: Final = 12 * 3600
MAX_SESSIONS: Final = 1000
MAX_FAILURES: Final = 10  # per address, before it has to wait
FAILURE_WAIT_S: Final = 60.0
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
METRICS_PATH: Final = "/metrics"  # has a token of its own beside the others
BEARER: Final = "bearer"  # names in the audit trail of those who need none
NOBODY: Final = "page"
OPEN_PATHS: Final = ("/static/", "/login", "/healthz", "/readyz")
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: Final = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(slots=True)
class Session:
    """One login: who, the token that changes must carry, and until when (monotonic seconds)."""

    user: str
    csrf_token: str
    until: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What access is decided by. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    address: str
    session_id: str = ""
    csrf_token: str = ""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    since: float = field(default_factory=time.monotonic)


class Access:
    """The rules of one node, and who is logged in. Any thread may ask.

    Args:
        web: the settings.
        host: where the page listens.
    """

    def __init__(self, web: Web) -> None:
        self._users = dict(entry.split(":", 1) for entry in web.users)
        self._token_hash = web.token_hash
        self._metrics_token_hash = web.metrics_token_hash
        # With a login a foreign name gains nothing, and a proxy may have any name.
        is_open = is_loopback(web.host) and not self.needs_login
        self._names = {"localhost", "127.0.0.1", "::1", web.host} if is_open else None
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._failures: dict[str, _Failures] = {}
        self._open_token = secrets.token_urlsafe(24)  # of pages when nobody need log in
        self._known_basic: set[str] = set()
        self._nobody = hash_password(secrets.token_urlsafe(16)) if self._users else ""

    @property
    def needs_login(self) -> bool:
        """Whether users or a token are configured."""
        return bool(self._users or self._token_hash)

    def decide(self, asked: Asked) -> Session | None:
        """Let a request through, or say why not.

        Returns:
            The session that it belongs to, if any.
        Raises:
            Problem: it is refused.
        """
        self._require_name(asked.headers.get("host", ""))
        changes = asked.method not in SAFE_METHODS
        if changes:
            _require_own_origin(asked.headers)
        if asked.path.startswith(OPEN_PATHS):
            return self.session(asked.session_id)
        if not self.needs_login:
            return None
        scheme, _, credential = asked.headers.get("authorization", "").partition(" ")
        if scheme:
            if asked.path == METRICS_PATH and self._is_metrics_token(scheme, credential):
                return None
            self._require_credential(scheme.lower(), credential.strip(), asked.address)
            return None
        session = self.session(asked.session_id)
        if session is None:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "log in at /login, or send the header Authorization: Bearer with a token",
                headers={"WWW-Authenticate": "Bearer"},
            )
        given = asked.csrf_token.encode()  # a text may hold no other letters than ASCII
        if changes and not hmac.compare_digest(given, session.csrf_token.encode()):
            raise Problem(HTTPStatus.FORBIDDEN, "the form is too old; load the page again")
        return session

    # Logging in

    def log_in(self, user: str, password: str, address: str) -> str:
        """Check a password and begin a session; slow on purpose.

        Returns:
            The session's id, for the cookie.
        Raises:
            Problem: it is wrong, or too many were.
        """
        self._require_patience(address)
        hashed = self._users.get(user)
        # An unknown name takes as long as a wrong password, so that nobody learns the names.
        right = is_password(password, hashed or self._nobody) and hashed is not None
        if not right:
            self._count_failure(address)
            audit.user_authenticated(user, address, reason="the name or the password is wrong")
            raise Problem(HTTPStatus.UNAUTHORIZED, "the name or the password is wrong")
        audit.user_authenticated(user, address)
        with self._lock:
            self._failures.pop(address, None)
            session_id = secrets.token_urlsafe(32)
            until = time.monotonic() + SESSION_S
            self._sessions[session_id] = Session(user, secrets.token_urlsafe(24), until)
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session_id

    def log_out(self, session_id: str, address: str = "") -> None:
        """End a session."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        if session is not None:
            audit.user_left(session.user, address)

    def session(self, session_id: str) -> Session | None:
        """The session with that id, while it lasts."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None and session.until < time.monotonic():
                del self._sessions[session_id]
                return None
            return session

    def csrf_token(self, session: Session | None) -> str:
        """The token that a page's changes carry."""
        return session.csrf_token if session else self._open_token

    # The single rules

    def _require_name(self, host: str) -> None:
        if self._names is None:
            return
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._names:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this page answers to localhost only; set web.host and web.users to open it",
            )

    def _is_metrics_token(self, scheme: str, credential: str) -> bool:
        token_hash = self._metrics_token_hash
        return scheme.lower() == "bearer" and is_token(credential.strip(), token_hash)

    def _require_credential(self, scheme: str, credential: str, address: str) -> None:
        if scheme == "bearer" and is_token(credential, self._token_hash):
            return
        if scheme == "basic" and self._is_basic(credential, address):
            return
        reason = "the token or password in the header Authorization is wrong"
        user = basic_user(credential) if scheme == "basic" else BEARER
        audit.user_authenticated(user, address, reason=reason)
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            reason,
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_basic(self, credential: str, address: str) -> bool:
        """Check name and password of a script; once right, they are remembered by their digest."""
        digest = hmac.digest(self._open_token.encode(), credential.encode(), "sha256").hex()
        if digest in self._known_basic:
            return True
        self._require_patience(address)
        try:
            user, _, password = base64.b64decode(credential, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8
            return False
        hashed = self._users.get(user)
        if hashed is None or not is_password(password, hashed):
            self._count_failure(address)
            return False
        if len(self._known_basic) < MAX_SESSIONS:
            self._known_basic.add(digest)
        return True

    def _require_patience(self, address: str) -> None:
        with self._lock:
            failures = self._failures.get(address)
            if failures is None:
                return
            wait_s = failures.since + FAILURE_WAIT_S - time.monotonic()
            if wait_s <= 0:
                del self._failures[address]
            elif failures.count >= MAX_FAILURES:
                raise Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "too many wrong passwords; wait a minute",
                    headers={"Retry-After": str(int(wait_s) + 1)},
                )

    def _count_failure(self, address: str) -> None:
        with self._lock:
            if len(self._failures) >= MAX_SESSIONS:
                self._failures.clear()
            self._failures.setdefault(address, _Failures()).count += 1


def basic_user(credential: str) -> str:
    """The name in the credential of Basic authentication; "" when there is none."""
    try:
        return base64.b64decode(credential, validate=True).decode().partition(":")[0]
    except ValueError:
        return ""


def user_of(asked: Asked, session: Session | None) -> str:
    """By what name a request that was let through goes into the audit trail."""
    if session is not None:
        return session.user
    scheme, _, credential = asked.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return basic_user(credential.strip())
    return BEARER if scheme else NOBODY


def _require_own_origin(headers: Mapping[str, str]) -> None:
    """Refuse what another site's page makes a browser send; scripts send neither header."""
    refused = Problem(HTTPStatus.FORBIDDEN, "this request comes from a page of another site")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise refused
    origin = headers.get("origin")
    if origin is None:
        return
    try:
        is_own = urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address at all
        is_own = False
    if not is_own:
        raise refused
