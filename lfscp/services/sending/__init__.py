"""Sends objects by C-STORE sub-operations, and chooses their presentation contexts."""
