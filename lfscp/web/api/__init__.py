"""The JSON API under /api, one module for each kind of thing."""
