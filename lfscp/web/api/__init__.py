"""The JSON API under /api, one module per kind of thing."""
