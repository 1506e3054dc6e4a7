"""The inline engine: pynetdicom's association and its providers, driven by the calling thread."""
