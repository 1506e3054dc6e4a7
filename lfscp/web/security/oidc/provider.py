"""Knows the identity provider: where it answers, and its keys.

Rules: both are fetched when the page is built, and again in the background when they are ten
minutes old, so that a key that the provider withdraws is soon useless. If a token names a key that
is not known, they are fetched at once, but at most every ten seconds, and only by one thread; a few
may wait for it. While the provider is away the old keys hold. A provider elsewhere cannot have this
node ask services of its own machine.

Source: OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from lfscp.config.checks import is_loopback
from lfscp.config.oidc import OIDC, is_safe_url
from lfscp.observe.logging import get_logger
from lfscp.web.security.oidc.documents import fetch
from lfscp.web.security.oidc.errors import ProviderAwayError, TokenRefusedError
from lfscp.web.security.oidc.keys import Key, read_keys

LOG: Final = get_logger("lfscp.web")
FRESH_S: Final = 600.0
AGAIN_S: Final = 10.0
MAX_WAITING: Final = 8
_WAIT_S: Final = 25.0  # two documents
_CONFIGURATION: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Known:
    """What the provider says of itself.

    Args:
        authorization, token: endpoints; empty if it has none.
        end_session: where its own session ends; empty if it cannot be ended.
        secret_in_form: whether it takes the client's secret in the form only.
        keys: its public keys.
        at: when that was fetched; monotonic, in seconds.
    """

    authorization: str
    token: str
    end_session: str
    secret_in_form: bool
    keys: tuple[Key, ...]
    at: float

    def key(self, kid: str, algorithm: str) -> Key | None:
        """The key of that name; without a name, the only one for the algorithm."""
        fitting = [each for each in self.keys if algorithm in each.algorithms]
        if not kid:
            return fitting[0] if len(fitting) == 1 else None
        return next((each for each in fitting if each.kid == kid), None)


class Provider:
    """The identity provider of one node. Any thread may ask; not the event loop's: it may wait.

    Args:
        settings: of the provider.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, settings: OIDC, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._known: Known | None = None
        self._tried_at = float("-inf")
        self._failure = ""  # of the last try; empty when it was right
        self._background: threading.Thread | None = None

    def begin(self) -> None:
        """Fetch in the background, so that the first visitor need not wait."""
        if self._background is None or not self._background.is_alive():
            name = "lfscp-identity-provider"
            self._background = threading.Thread(target=self._try_to_fetch, name=name, daemon=True)
            self._background.start()

    def known(self) -> Known:
        """What is known; fetched, if nothing is.

        Raises:
            ProviderAwayError: nothing is known, and it does not answer.
        """
        known = self._known
        if known is None:
            return self._fetched()
        if self._now() - known.at > FRESH_S and self._may_try():
            self.begin()
        return known

    def key(self, kid: str, algorithm: str) -> Key:
        """The key that a token names.

        Raises:
            TokenRefusedError: the provider has no such key.
            ProviderAwayError: nothing is known, and it does not answer.
        """
        found = self.known().key(kid, algorithm)
        if found is None and self._may_try():
            found = self._fetched().key(kid, algorithm)
        if found is None:
            raise TokenRefusedError("the identity provider has no key for it")
        return found

    def _may_try(self) -> bool:
        return self._now() - self._tried_at >= AGAIN_S

    def _fetched(self) -> Known:
        """Fetch, or wait for the thread that does."""
        if self._known is None and not self._may_try():
            raise ProviderAwayError(self._failure)
        if not self._waiting.acquire(blocking=False):
            raise ProviderAwayError("too many requests wait for it")
        try:
            if not self._fetching.acquire(timeout=_WAIT_S):
                raise ProviderAwayError("no answer")
            try:
                if self._may_try():
                    self._fetch()
            finally:
                self._fetching.release()
        finally:
            self._waiting.release()
        if self._known is None:
            raise ProviderAwayError(self._failure)
        return self._known

    def _try_to_fetch(self) -> None:
        with self._fetching:
            if self._may_try():
                self._fetch()

    def _fetch(self) -> None:
        """Fetch; a failure is kept and said once."""
        issuer = self._settings.issuer
        try:
            self._known = self._ask()
        except ProviderAwayError as error:
            if not self._failure:
                LOG.warning(
                    "the identity provider does not answer",
                    issuer=issuer,
                    reason=str(error),
                    hint="known keys hold until it does" if self._known else "no token is accepted",
                )
            self._failure = str(error)
        else:
            if self._failure:
                LOG.info("the identity provider answers again", issuer=issuer)
            self._failure = ""
        finally:
            self._tried_at = self._now()

    def _ask(self) -> Known:
        issuer, ca_file = self._settings.issuer, self._settings.ca_file
        found = fetch(issuer.rstrip("/") + _CONFIGURATION, ca_file)
        if found.get("issuer") != issuer:
            raise ProviderAwayError(f"its own name is another one: {found.get('issuer')!r:.200}")
        keys = read_keys(fetch(self._endpoint(found, "jwks_uri"), ca_file))
        methods = found.get("token_endpoint_auth_methods_supported")
        return Known(
            authorization=self._endpoint(found, "authorization_endpoint"),
            token=self._endpoint(found, "token_endpoint"),
            end_session=self._endpoint(found, "end_session_endpoint"),
            secret_in_form=isinstance(methods, list) and "client_secret_basic" not in methods,
            keys=keys,
            at=self._now(),
        )

    def _endpoint(self, found: Mapping[str, Any], name: str) -> str:
        """One of its URLs; on this machine only if the provider is there too."""
        url = found.get(name, "")
        if not isinstance(url, str) or (url and not is_safe_url(url)):
            raise ProviderAwayError(f"its {name} is no URL with https")
        if url and _is_here(url) and not _is_here(self._settings.issuer):
            raise ProviderAwayError(f"its {name} is on this machine")
        return url


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")
