"""Compresses objects without loss, for receivers that want them so."""
