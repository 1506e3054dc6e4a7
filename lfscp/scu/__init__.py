"""Asks other nodes: echo, find, get, move, send and commit, each in the calling thread."""
