"""The command line: `app` has the commands, each in a module named after what it is about."""

from lfscp.cli.app import main

__all__ = ["main"]
