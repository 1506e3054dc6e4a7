"""Decides who may ask, and how much: Host, origin, logins, roles, limits."""
