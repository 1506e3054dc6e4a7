"""Stored objects in another transfer syntax."""
