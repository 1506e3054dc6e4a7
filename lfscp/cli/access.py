"""`lfscp hash-password`: hashes for the page's users and its token."""

from __future__ import annotations

import getpass
import sys

from lfscp.cli.failures import CommandError
from lfscp.config.passwords import hash_password, new_token


def print_password_hash() -> None:
    """Read a password, twice from a terminal or one line from a pipe, and print its hash.

    Raises:
        CommandError: it is empty, or the two differ.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Again: "):
            raise CommandError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandError("no password was given")
    sys.stdout.write(hash_password(password) + "\n")


def print_token() -> None:
    """Print a new token, which nobody can show again, and the hash for the configuration."""
    token, hashed = new_token()
    sys.stdout.write(f"token      {token}\ntoken_hash {hashed}\n")
