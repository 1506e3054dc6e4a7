"""Asking a peer."""
