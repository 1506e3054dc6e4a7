"""Installs the node as a service of systemd; the unit, its socket and its user are files here."""
