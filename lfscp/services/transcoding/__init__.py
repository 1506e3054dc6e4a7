"""Converts stored objects to another transfer syntax."""
