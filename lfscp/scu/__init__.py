"""Asking other application entities: echo, find, get, move, send, each in the calling thread."""
