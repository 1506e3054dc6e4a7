"""The steps of an installation: each says what it does, and does it.

A file is written whole beside its place and moved there, so that systemd reads no half of it.
"""

from __future__ import annotations

import grp
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lfscp.archive.durability import whole_file
from lfscp.systemd.errors import ServiceError

_COMMAND_S: Final = 120.0  # a node may take a minute to start


class Step(Protocol):
    """One step."""

    def said(self) -> str:
        """What it would do, or that there is nothing to do; one line."""
        ...

    def perform(self) -> None:
        """Do it.

        Raises:
            ServiceError: a program failed.
            OSError: a file cannot be written or removed.
        """
        ...


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Writes a file.

    Args:
        mode: its permissions.
        group: whose it is; empty for that of the writer. It must exist when the step is performed.
        keeps_old: whether a file that is there stays as it is, since an administrator has changed
            it; else it is kept beside the new one, with the ending `.old`.
    """

    path: Path
    text: str
    mode: int = 0o644
    group: str = ""
    keeps_old: bool = False

    def said(self) -> str:
        if self._is_there():
            return f"keep {self.path}"
        old = f", and keep the old one as {self._old.name}" if self.path.exists() else ""
        owner = f", group {self.group}" if self.group else ""
        return f"write {self.path} ({self.mode:o}{owner}){old}"

    def perform(self) -> None:
        if self._is_there():
            return
        made = [each for each in (self.path.parent, *self.path.parent.parents) if not each.exists()]
        for folder in reversed(made):  # the umask of commands would keep the service out
            folder.mkdir()
            folder.chmod(0o755)
        if self.path.exists():
            shutil.copy2(self.path, self._old)
        with whole_file(self.path) as file:
            file.write(self.text.encode())
            os.fchmod(file.fileno(), self.mode)
            if self.group:
                os.fchown(file.fileno(), -1, grp.getgrnam(self.group).gr_gid)

    @property
    def _old(self) -> Path:
        return self.path.with_name(f"{self.path.name}.old")

    def _is_there(self) -> bool:
        if not self.path.exists():
            return False
        return self.keeps_old or self.path.read_bytes() == self.text.encode()


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Removes a file, if it is there."""

    path: Path

    def said(self) -> str:
        return f"remove {self.path}" if self.path.exists() else f"{self.path} is not there"

    def perform(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Runs a program, which must succeed.

    Args:
        hint: what to look at if it fails.
    """

    command: Sequence[str]
    hint: str = ""

    def said(self) -> str:
        return f"run {shlex.join(self.command)}"

    def perform(self) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                list(self.command), capture_output=True, text=True, timeout=_COMMAND_S, check=False
            )
        except FileNotFoundError:
            raise ServiceError(f"{self.command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            reason = f"{shlex.join(self.command)} did not end within {_COMMAND_S:g} s"
            raise ServiceError(reason) from None
        if done.returncode:
            words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            hint = f"; {self.hint}" if self.hint else ""
            raise ServiceError(f"{shlex.join(self.command)} failed: {words}{hint}")
