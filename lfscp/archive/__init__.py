"""The archive: objects on disk, an index of their attributes, and matching over it."""
