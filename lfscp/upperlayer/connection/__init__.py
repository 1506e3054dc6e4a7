"""The connection of an association: socket, TLS, limits, errors."""
