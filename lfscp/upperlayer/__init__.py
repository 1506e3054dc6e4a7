"""The inline upper layer: pynetdicom's association driven wholly by the thread that calls it."""
