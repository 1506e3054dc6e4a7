"""Reads a user's name and roles from the claims of a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lfscp.config.oidc import OIDC, read_mapped_role
from lfscp.config.roles import Role
from lfscp.web.security.oidc.documents import printable

MAX_NAME: Final = 64  # characters, as in the audit trail
MAX_VALUES: Final = 1000
_SPACED: Final = ("scope", "scp")  # several values in one text (RFC 8693 section 4.2)


class RoleOfValues:
    """What the values of the role claim mean here.

    Args:
        settings: of the provider.
    """

    def __init__(self, settings: OIDC) -> None:
        mapped = [read_mapped_role(each) for each in settings.roles]
        self._roles = mapped or [(str(role), role) for role in Role]

    def __call__(self, values: Iterable[str]) -> Role | None:
        """The highest role; None if no value means one."""
        named = set(values)
        found = [role for value, role in self._roles if value in named]
        return max(found, key=lambda role: role.rank, default=None)


def values_of(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """The values of the role claim: one text, or the texts of a list."""
    found = _at(claims, claim)
    if isinstance(found, str):
        return tuple(found.split()[:MAX_VALUES]) if claim in _SPACED else (found,)
    if isinstance(found, list):
        return tuple(each for each in found[:MAX_VALUES] if isinstance(each, str))
    return ()


def name_of(claims: Mapping[str, Any], claim: str) -> str:
    """The user's name; empty if there is none, nor a `sub`."""
    for found in (_at(claims, claim), claims.get("sub")):
        if isinstance(found, str) and found.strip():
            return printable(found.strip(), MAX_NAME)
    return ""


def why_no_role(claims: Mapping[str, Any], settings: OIDC) -> str:
    """Why a user has no role here, and what to do, for the user and the administrator."""
    claim = settings.role_claim
    left_out = claims.get("_claim_names")  # Entra ID, when there are more than 200 groups
    if isinstance(left_out, dict) and claim in left_out:
        return f"the identity provider left out the claim {claim}, since it has too many values"
    if _at(claims, claim) is None:
        return f"the identity provider gives you no role: the claim {claim} is missing"
    return f"the identity provider gives you no role here: no value of the claim {claim} means one"


def _at(table: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; a name may have dots itself, as URLs and client IDs do."""
    if path in table:
        return table[path]
    dot = path.rfind(".")
    while dot > 0:
        inner = table.get(path[:dot])
        if isinstance(inner, dict):
            return _at(inner, path[dot + 1 :])
        dot = path.rfind(".", 0, dot)
    return None
