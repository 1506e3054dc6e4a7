"""The errors of logins by an identity provider; each text is for the caller."""

from __future__ import annotations


class TokenRefusedError(Exception):
    """A token, or an answer of the provider, that proves nothing; the text says why."""


class ProviderAwayError(Exception):
    """The provider cannot be asked now; the text says why."""
