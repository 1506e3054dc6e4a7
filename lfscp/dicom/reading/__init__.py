"""Reads some attributes of a dataset: the index's, the keys of a query, one value."""
