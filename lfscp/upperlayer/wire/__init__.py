"""Bytes to values and back: PDUs and command sets. No I/O."""
