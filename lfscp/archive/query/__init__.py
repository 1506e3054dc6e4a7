"""Queries: the keys of a C-FIND, C-MOVE or C-GET as SQL, and rows as responses."""
