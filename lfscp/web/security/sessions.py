"""Keeps the sessions of users who are logged in at the page."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lfscp.config.roles import Role

if TYPE_CHECKING:
    from lfscp.web.security.oidc.identity_provider import User

SESSION_COOKIE: Final = "lfscp_session"
SESSION_S: Final = 12 * 3600
MAX_SESSIONS: Final = 1000
MAX_SESSIONS_OF_USER: Final = (
    50  # beyond it the oldest ends, so that no user can end others' sessions
)


@dataclass(slots=True)
class Session:
    """A user who is logged in.

    Args:
        hashed: the password's hash in the settings at the login; empty for a user of a provider.
        csrf_token: a request that changes something must carry it.
        until: monotonic, in seconds.
        known_elsewhere: the user of an identity provider; None for one of this node.
    """

    user: str
    hashed: str
    role: Role
    csrf_token: str
    until: float
    known_elsewhere: User | None = None


class Sessions:
    """The sessions of one node. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(
        self,
        user: str,
        role: Role,
        lasts_s: float,
        *,
        hashed: str = "",
        known_elsewhere: User | None = None,
    ) -> str:
        """Begin a session; the arguments are those of `Session`.

        Args:
            lasts_s: in seconds.
        Returns:
            Its id, for the cookie.
        """
        session_id = secrets.token_urlsafe(32)
        until = time.monotonic() + min(lasts_s, SESSION_S)
        csrf_token = secrets.token_urlsafe(24)
        session = Session(user, hashed, role, csrf_token, until, known_elsewhere)
        with self._lock:
            self._sessions[session_id] = session
            own = [each for each, other in self._sessions.items() if other.user == user]
            for each in own[:-MAX_SESSIONS_OF_USER]:
                del self._sessions[each]
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session_id

    def end(self, session_id: str) -> Session | None:
        """End a session, and return it; None if there is none."""
        with self._lock:
            return self._sessions.pop(session_id, None)

    def get(self, session_id: str) -> Session | None:
        """The session with that id, until it ends."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None and session.until < time.monotonic():
                del self._sessions[session_id]
                return None
            return session
