"""The settings of the web page and the API: address, logins and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import AfterValidator, model_validator

from lfscp.config.access import Network
from lfscp.config.checks import (
    Bool,
    Count,
    Folder,
    Int,
    ListenPort,
    ListOf,
    Seconds,
    check_token_hash,
    is_loopback,
    is_password_hash,
)
from lfscp.config.declaration import Section, setting
from lfscp.config.oidc import OIDC
from lfscp.config.roles import Role

_LOGIN: Final = (
    "NAME:ROLE:HASH or NAME:HASH; ROLE is read, work or admin, and admin when it is left out; "
    "`lfscp hash-password` makes the hash"
)
_OF_SCRIPT: Final = (
    "NAME:ROLE:HASH; ROLE is read, work or admin; `lfscp hash-password --token` makes a token and "
    "its hash"
)


@dataclass(frozen=True, slots=True)
class Login:
    """An entry of `web.users` or `web.tokens`."""

    name: str
    role: Role
    hashed: str


def read_login(entry: str) -> Login:
    """Read NAME:ROLE:HASH, or NAME:HASH of an administrator.

    Raises:
        ValueError: it is neither.
    """
    name, colon, rest = entry.partition(":")
    role, named, hashed = rest.partition(":")
    if not named:
        role, hashed = Role.ADMIN, rest
    if not colon or not name.strip() or role not in list(Role):
        raise ValueError(_LOGIN)
    return Login(name, Role(role), hashed)


def check_web_user(entry: str) -> str:
    """A user of the page with the hash of the password."""
    if not is_password_hash(read_login(entry).hashed):
        raise ValueError(_LOGIN)
    return entry


def check_web_token(entry: str) -> str:
    """A script's token with its name and role."""
    try:
        login = read_login(entry)
        is_whole = bool(check_token_hash(login.hashed)) and entry.count(":") == 2
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(_OF_SCRIPT)
    return entry


def _each_name_once(entries: tuple[str, ...]) -> tuple[str, ...]:
    names = [read_login(each).name for each in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"each name once; {name} is there twice")
    return entries


WebUser = Annotated[str, AfterValidator(check_web_user)]
WebToken = Annotated[str, AfterValidator(check_web_token)]


class WebSection(Section):
    """The web page and the API. They are on, for this machine only, unless you say otherwise."""

    enabled: Bool = setting(True, "Serve the page and the API. --no-http turns them off.")
    host: str = setting(
        "127.0.0.1",
        "Address of the page. If other machines can reach it, set users, tokens, token_hash or "
        "oidc.issuer.",
        min_length=1,
    )
    port: ListenPort = setting(
        8080,
        "TCP port of the page. If the default port is taken, the node runs without the page. A "
        "port that you choose must be free. 0 takes any free port, and the log says which.",
        flag="--http-port",
    )
    users: Annotated[ListOf[WebUser], AfterValidator(_each_name_once)] = setting(
        (),
        "Who may log in, each as NAME:ROLE:HASH. `lfscp hash-password` makes the hash. Roles: "
        "read (look, search, download), work (also upload, send, retrieve, jobs), admin (also "
        "delete, protect, peers). NAME:HASH is an admin.",
        live=True,
    )
    tokens: Annotated[ListOf[WebToken], AfterValidator(_each_name_once)] = setting(
        (),
        "Bearer tokens for scripts, each as NAME:ROLE:HASH with the roles of users. `lfscp "
        "hash-password --token` makes a token and its hash.",
        live=True,
    )
    token_hash: Annotated[str, AfterValidator(check_token_hash)] = setting(
        "", "Hash of one more bearer token, with the role admin.", live=True
    )
    metrics_token_hash: Annotated[str, AfterValidator(check_token_hash)] = setting(
        "",
        "Hash of a bearer token that opens /metrics and nothing else. `lfscp hash-password "
        "--token` makes it.",
        live=True,
    )
    trusted_proxies: ListOf[Network] = setting(
        (),
        "Addresses and networks of reverse proxies. Their header Forwarded, or X-Forwarded-For, "
        "-Host and -Proto, gives the visitor's address, and the scheme and host that the visitor "
        "asked for. From anybody else these headers are ignored.",
        live=True,
    )
    timeout_s: Seconds = setting(
        20.0, "Longest wait for the first or the next request on a connection, in seconds."
    )
    min_rate: Count = setting(
        1000,
        "Lowest rate of a request's body and of an answer, in bytes per second over timeout_s."
        " A slower connection is closed. 0 means no limit.",
    )
    max_connections: Count = setting(
        0,
        "Most HTTP connections at once. 0 means a quarter of the files that the process may open.",
    )
    max_connections_per_address: Count = setting(
        256,
        "Most connections from one address, except from trusted_proxies. A further one takes "
        "the place of an idle one, or is refused. Unless you set max_connections, half of all is "
        "the most. 0 means no limit.",
    )
    max_event_streams: Int = setting(
        20,
        "Most live views (/api/events) of one login or, without logins, of one address.",
        ge=1,
    )
    roots: ListOf[Folder] = setting((), "Folders that jobs and the page may read and write.")
    cache_mb: Count = setting(
        256, "Most disk space for rendered pictures, in data_dir/cache, in megabytes."
    )

    oidc: OIDC = OIDC()

    @property
    def needs_login(self) -> bool:
        """Whether there are users, tokens or an identity provider."""
        return bool(self.users or self.tokens or self.token_hash or self.oidc.issuer)

    @model_validator(mode="after")
    def _only_loopback_is_open(self) -> Self:
        if self.enabled and not is_loopback(self.host) and not self.needs_login:
            raise ValueError(
                f"set users, tokens, token_hash or oidc.issuer, since other machines can reach "
                f"{self.host}; `lfscp hash-password` makes a hash"
            )
        return self
