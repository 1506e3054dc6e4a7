"""Converts datasets from one encoding to another, and writes elements."""
