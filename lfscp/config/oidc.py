"""The settings of logins by an identity provider (OpenID Connect)."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from lfscp.config.access import File, Secret
from lfscp.config.checks import ListOf, Seconds, check_http_url, check_origin, is_loopback
from lfscp.config.declaration import Section, setting
from lfscp.config.roles import Role

_ISSUER: Final = (
    'empty, or a URL as "https://idp.example.org/realms/hospital"; http:// only on loopback'
)
_MAPPED: Final = "VALUE:ROLE; ROLE is read, work or admin"
_NAME: Final = "the name of a claim; dots lead into it, as in realm_access.roles"


def is_safe_url(url: str) -> bool:
    """Whether nobody between can read or change what is fetched there: TLS, or this machine."""
    try:
        parts = check_http_url(url, "a URL")
    except ValueError:
        return False
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def check_issuer(url: str) -> str:
    """The issuer as the provider spells it: a slash at its end counts."""
    if url and (not is_safe_url(url) or set("?#") & set(url)):
        raise ValueError(_ISSUER)
    return url


def check_page_origin(url: str) -> str:
    """Scheme, host and port of the page, or nothing."""
    return check_origin(url) if url else url


def read_mapped_role(entry: str) -> tuple[str, Role]:
    """Read VALUE:ROLE; the value may have colons.

    Raises:
        ValueError: it is not that.
    """
    value, _, role = entry.rpartition(":")
    if not value or role not in list(Role):
        raise ValueError(_MAPPED)
    return value, Role(role)


def check_mapped_role(entry: str) -> str:
    """A value of the role claim with its role."""
    read_mapped_role(entry)
    return entry


def check_claim(name: str) -> str:
    """The name of a claim."""
    if not name or not name.isprintable() or not all(name.split(".")):
        raise ValueError(_NAME)
    return name


def check_scope(scope: str) -> str:
    """One scope (RFC 6749 section 3.3)."""
    if not scope or not scope.isascii() or not scope.isprintable() or set(' "\\') & set(scope):
        raise ValueError("a scope without spaces, for example profile")
    return scope


class OIDC(Section):
    """Logins of an identity provider (OpenID Connect), for the page, the API and DICOMweb."""

    issuer: Annotated[str, AfterValidator(check_issuer)] = setting(
        "",
        "URL of the identity provider, as it stands in the claim iss of its tokens. Empty turns "
        "these logins off.",
        live=True,
    )
    client_id: str = setting(
        "",
        "Name of this node at the provider, for logins at the page. Empty: only tokens are "
        "accepted.",
        live=True,
    )
    client_secret: Secret = setting(
        SecretStr(""),
        "Secret of client_id. Empty means a public client, which PKCE alone protects.",
        live=True,
    )
    client_secret_file: File = setting(
        "", "File with this secret, instead of client_secret. It is read at each login.", live=True
    )
    audience: str = setting(
        "",
        "What the claim aud of a token must contain. Empty means client_id, which may then stand "
        "in the claim azp instead.",
        live=True,
    )
    role_claim: Annotated[str, AfterValidator(check_claim)] = setting(
        "roles",
        "Claim with the roles or groups of a user. Dots lead into it: realm_access.roles.",
        live=True,
    )
    roles: ListOf[Annotated[str, AfterValidator(check_mapped_role)]] = setting(
        (),
        "What the values of role_claim mean, each as VALUE:ROLE. The highest role counts. Empty: "
        "the values read, work and admin mean themselves.",
        live=True,
    )
    name_claim: Annotated[str, AfterValidator(check_claim)] = setting(
        "preferred_username",
        "Claim with the name of a user, for page and audit trail. Without it, sub is the name.",
        live=True,
    )
    scopes: ListOf[Annotated[str, AfterValidator(check_scope)]] = setting(
        ("openid", "profile"), "What the page's login asks the provider for.", live=True
    )
    session_s: Annotated[Seconds, Field(le=12 * 3600)] = setting(
        4 * 3600.0,
        "How long a login at the page lasts, in seconds, at most 12 hours. Then the browser asks "
        "the provider again. A user who was removed there stays logged in for so long at most.",
        live=True,
    )
    public_url: Annotated[str, AfterValidator(check_page_origin)] = setting(
        "",
        "Scheme, host and port of the page as browsers see it, for the way back from the provider. "
        "Empty means those that the browser asked for, as trusted_proxies tell them. At the port "
        "of OHIF it is ohif.public_url.",
        live=True,
    )
    ca_file: File = setting(
        "",
        "Certificates of the authorities that are trusted for the provider (PEM). Empty means the "
        "system's.",
        live=True,
    )

    @property
    def token_audience(self) -> str:
        """What a token must be for."""
        return self.audience or self.client_id

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.issuer:
            if self.client_id or self.audience:
                raise ValueError("set issuer too")
            return self
        if not self.token_audience:
            raise ValueError("set client_id for logins at the page, or audience for tokens alone")
        has_secret = bool(self.client_secret.get_secret_value())
        if has_secret and self.client_secret_file:
            raise ValueError("set client_secret or client_secret_file, not both")
        if (has_secret or self.client_secret_file) and not self.client_id:
            raise ValueError("set client_id, since there is a client_secret")
        if "openid" not in self.scopes:
            raise ValueError("put openid into scopes")
        return self
