"""Checks Host, origin, login and token of a request before any route sees it.

Rules: on a loopback address without users the page is open, but only under a loopback name, so
that another site's page cannot reach it by DNS rebinding. If any login is configured, all requests
need one, except the login itself, static files and health checks. A request that changes something
must come from our own pages, or from no browser at all; with a session it must prove it, see
`own_pages`. `roles` says what a login may do. Every answer carries a strict policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lfscp.config.checks import is_loopback
from lfscp.config.passwords import is_token
from lfscp.config.roles import Role
from lfscp.config.web import WebSection, read_login
from lfscp.observe import audit
from lfscp.web.problems import Problem
from lfscp.web.security.logins import BEARER, Logins
from lfscp.web.security.own_pages import is_from_own_page, require_own_origin
from lfscp.web.security.roles import OPEN_PATHS, require_role
from lfscp.web.security.sessions import SESSION_S, Session, Sessions

if TYPE_CHECKING:
    from lfscp.web.security.oidc.identity_provider import IdentityProvider
    from lfscp.web.security.oidc.sign_in import Begun

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOGIN_PAGE: Final = "/login"
LOGGED_OUT_PAGE: Final = "/login?left=1"  # does not lead to the provider by itself
METRICS_PATH: Final = "/metrics"  # has a token of its own, beside the others
NOBODY: Final = "page"  # the caller in the audit trail when no login is needed
METRICS: Final = "metrics"  # the caller in the audit trail with the token of that path
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


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """The parts of a request that decide about access. Header names are in lower case.

    Args:
        from_listed_origin: whether a page of another site sends it that may, see `cross_origin`.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    address: str
    session_id: str = ""
    csrf_token: str = ""
    from_listed_origin: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Args:
        name: for the audit trail.
        session: the session of the request, if any.
    """

    name: str
    role: Role
    session: Session | None = None


class Access:
    """The access rules and sessions of one node. Any thread may call any method.

    Attributes:
        provider: the identity provider, if there is one.
    """

    def __init__(self, web: WebSection) -> None:
        self._is_local = is_loopback(web.host)
        self._own_names = {"localhost", "127.0.0.1", "::1", web.host}
        self.provider = _provider_of(web, None)
        self._logins = Logins(web, provider=self.provider)
        self._metrics_token_hash = web.metrics_token_hash
        self._sessions = Sessions()
        self._open_token = secrets.token_urlsafe(24)  # of pages when no login is needed

    @property
    def needs_login(self) -> bool:
        """Whether any login is configured, or the page is reachable from other hosts."""
        return self._logins.are_any or self.provider is not None or not self._is_local

    @property
    def has_users(self) -> bool:
        """Whether there are names and passwords."""
        return self._logins.has_users

    def renew(self, web: WebSection) -> None:
        """Take over users, tokens and the provider that were read again.

        A user who was removed, or has another password, is logged out. A new role counts at once.
        """
        self._metrics_token_hash = web.metrics_token_hash
        self.provider = _provider_of(web, self.provider)
        self._logins = self._logins.renewed(web, self.provider)

    def decide(self, asked: AccessRequest) -> Caller:
        """Let a request through, or refuse it.

        Returns:
            Who makes it.
        Raises:
            Problem: it is refused; the text says why.
        """
        self._require_name(asked.headers.get("host", ""))
        changes = asked.method not in SAFE_METHODS
        if changes and not asked.from_listed_origin:
            require_own_origin(asked.headers)
        if asked.path.startswith(OPEN_PATHS):
            session = self.session(asked.session_id)
            return _caller_of(session) if session else Caller(NOBODY, Role.READ)
        if not self.needs_login:
            return Caller(NOBODY, Role.ADMIN)
        caller = self._caller(asked, changes=changes)
        self._require_role(asked, caller)
        return caller

    def _caller(self, asked: AccessRequest, *, changes: bool) -> Caller:
        """Who makes the request, by its header or session."""
        scheme, _, credential = asked.headers.get("authorization", "").partition(" ")
        if scheme:
            scheme, credential = scheme.lower(), credential.strip()
            is_for_metrics = asked.path == METRICS_PATH and scheme == "bearer"
            if is_for_metrics and is_token(credential, self._metrics_token_hash):
                return Caller(METRICS, Role.READ)
            login = self._logins.of_header(scheme, credential, asked.address)
            return Caller(login.name, login.role)
        session = self.session(asked.session_id)
        if session is None:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "log in at /login, or send the header Authorization: Bearer with a token",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if changes and not is_from_own_page(asked.path, asked.headers, asked.csrf_token, session):
            raise Problem(HTTPStatus.FORBIDDEN, "this page is too old; load it again")
        return _caller_of(session)

    def _require_role(self, asked: AccessRequest, caller: Caller) -> None:
        """Refuse what the caller's role may not do, and note it in the audit trail."""
        try:
            require_role(asked.method, asked.path, caller.role)
        except Problem as problem:
            what = f"{asked.method} {asked.path}"
            audit.not_authorised(
                audit.AuditedPeer(caller.name, asked.address), what, problem.detail
            )
            raise

    # Logging in

    def log_in(self, user: str, password: str, address: str) -> str:
        """Check a password and begin a session; slow on purpose.

        Returns:
            The session's id, for the cookie.
        Raises:
            Problem: name or password is wrong, or too many wrong ones came.
        """
        login = self._logins.user(user, password, address)
        return self._sessions.begin(login.name, login.role, SESSION_S, hashed=login.hashed)

    def begin_at_provider(self, back: str, next_page: str, address: str) -> Begun:
        """Begin a login at the identity provider.

        Args:
            back: URL of this node where the provider sends the browser.
            next_page: the path that was asked for.
        Raises:
            Problem: there is no such login (404), or the provider is away (503).
        """
        return self._required_provider().begin(back, next_page, address)

    def log_in_at_provider(
        self, cookie: str, answer: Mapping[str, str], back: str, address: str
    ) -> tuple[str, str]:
        """Take the provider's answer and begin a session; see `SignIn.finish`.

        Returns:
            The session's id, for the cookie, and the page that was asked for.
        Raises:
            Problem: there is no such login, or it failed.
        """
        provider = self._required_provider()
        user, next_page = provider.finish(cookie, answer, back, address)
        lasts_s = provider.settings.session_s
        session_id = self._sessions.begin(user.name, user.role, lasts_s, known_elsewhere=user)
        return session_id, next_page

    def log_out(self, session_id: str, back: str = "", address: str = "") -> str:
        """End a session.

        Args:
            back: URL of the page to log in.
        Returns:
            Where the browser goes on: the page to log in, or the provider's logout.
        """
        session = self._sessions.end(session_id)
        if session is not None:
            audit.user_left(session.user, address)
        if session is None or session.known_elsewhere is None:
            return LOGIN_PAGE
        provider = self.provider
        end = provider.end_url(session.known_elsewhere, back) if provider else ""
        return end or LOGGED_OUT_PAGE

    def session(self, session_id: str) -> Session | None:
        """The session with that id, until it ends or its user changes."""
        session = self._sessions.get(session_id)
        if session is None:
            return None
        role = self._role_now(session)
        if role is None:
            self._sessions.end(session_id)
            return None
        session.role = role
        return session

    def _role_now(self, session: Session) -> Role | None:
        """The role of a session's user; None if the settings know him no longer."""
        provider = self.provider  # a reload may replace it
        if session.known_elsewhere is not None:
            return provider.role(session.known_elsewhere) if provider else None
        login = self._logins.of_name(session.user)
        is_same = login is not None and login.hashed == session.hashed
        return login.role if login is not None and is_same else None

    def _required_provider(self) -> IdentityProvider:
        provider = self.provider
        if provider is None or not provider.logs_in_browsers:
            detail = "there is no login at an identity provider; see web.oidc.client_id"
            raise Problem(HTTPStatus.NOT_FOUND, detail)
        return provider

    def csrf_token(self, session: Session | None) -> str:
        """The token for requests of a page that change something."""
        return session.csrf_token if session else self._open_token

    def _require_name(self, host: str) -> None:
        if self.needs_login:  # another name gains nothing, and a proxy may have any
            return
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._own_names:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this page answers to localhost only; set web.host and web.users to open it",
            )


def _provider_of(web: WebSection, before: IdentityProvider | None) -> IdentityProvider | None:
    """The provider that the settings name; the one before, if they have not changed."""
    if not web.oidc.issuer:
        return None
    names = frozenset(read_login(each).name for each in (*web.users, *web.tokens))
    names |= {NOBODY, METRICS, BEARER}
    if before is not None and (before.settings, before.names) == (web.oidc, names):
        return before
    # Its libraries are slow to import, and few nodes have a provider.
    from lfscp.web.security.oidc.identity_provider import IdentityProvider

    return IdentityProvider(web.oidc, names, before.attempts if before else None)


def _caller_of(session: Session) -> Caller:
    return Caller(session.user, session.role, session)
