"""Serving the requests of a peer."""
