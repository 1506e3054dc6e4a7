"""Logs in with tokens of an identity provider (OpenID Connect), and at the page by its login."""
