"""The command line: a module a group of commands, put together in `app`."""

from lfscp.cli.app import main

__all__ = ["main"]
