"""Sends objects on by routes: what goes where, the queues, and their delivery."""
