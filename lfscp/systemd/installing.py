"""Plans how the node becomes a service of systemd, and how it ceases to be one.

Rules: what an administrator has changed or the node has stored stays: an existing configuration and
socket are kept, and `removal` leaves configuration, data and the user.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

import lfscp
from lfscp.config.describe import template
from lfscp.config.sources import SYSTEM_FILE
from lfscp.systemd.errors import ServiceError
from lfscp.systemd.steps import RemoveFile, RunProgram, Step, WriteFile

USER: Final = "lfscp"
DATA_DIR: Final = Path("/var/lib/lfscp")
_UNITS: Final = Path("etc/systemd/system")
_NAMES: Final = ("lfscp.socket", "lfscp.service")
_SYSUSERS: Final = Path("etc/sysusers.d/lfscp.conf")
_RUNNING: Final = Path("/run/systemd/system")  # sd_booted(3)
_PROGRAM: Final = "/opt/lfscp/bin/lfscp"  # as the unit has it
# What ProtectHome and PrivateTmp of the unit hide from the service.
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not used
_NO_PROGRAM: Final = re.compile(r"[\x00-\x1f\x7f\"'\\]")  # what systemd refuses in its path
_LOG: Final = f"see journalctl -u {USER}"


def installation(
    *, socket: bool, start: bool, switches: bool = False, root: Path = Path("/")
) -> list[Step]:
    """The steps that make the node a service.

    Args:
        socket: whether systemd opens the DICOM port.
        start: whether the service starts now, and whenever the machine does.
        switches: whether the service is installed in the other of these two ways.
        root: below which files are written; another one is for tests.
    """
    steps: list[Step] = [
        WriteFile(root / _SYSUSERS, packaged("lfscp.sysusers")),
        RunProgram(["systemd-sysusers", str(root / _SYSUSERS)]),
        WriteFile(
            root / SYSTEM_FILE.relative_to("/"), configuration(), 0o640, USER, keeps_old=True
        ),
        WriteFile(root / _UNITS / "lfscp.service", unit(program())),
        WriteFile(root / _UNITS / "lfscp.socket", packaged("lfscp.socket"), keeps_old=True),
        RunProgram(["systemctl", "daemon-reload"]),
    ]
    if start:
        if switches:
            steps.append(RunProgram(["systemctl", "disable", "--now", *_NAMES]))
        steps.append(RunProgram(["systemctl", "enable", "--now", _NAMES[not socket]], _LOG))
    return steps


def removal(*, root: Path = Path("/")) -> list[Step]:
    """The steps that stop the service and remove its files; data and configuration stay."""
    disable = ["systemctl", "disable", "--now", *_NAMES]
    units = [root / _UNITS / name for name in _NAMES]
    there = any(each.exists() for each in units)
    return [
        *([RunProgram(disable)] if there else []),
        *map(RemoveFile, [*units, root / _SYSUSERS]),
        *([RunProgram(["systemctl", "daemon-reload"])] if there else []),
    ]


def switches(*, socket: bool) -> bool:
    """Whether the service is enabled in the other way."""
    return _is("is-enabled", _NAMES[socket])


def is_running() -> bool:
    """Whether the service runs."""
    return _is("is-active", "lfscp.service")


def _is(question: str, unit: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ["systemctl", question, "--quiet", unit],  # noqa: S607 - as RunProgram
            check=False,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def configuration() -> str:
    """The configuration file of a new service: every setting explained, two of them given.

    The commands beside the service read the same file, so they use the same data folder.
    """
    text = template()
    for key, value in (("data_dir", str(DATA_DIR)), ("format", "json")):
        line = next(each for each in text.splitlines() if each.startswith(f"#{key} = "))
        text = text.replace(f"\n{line}\n", f'\n{key} = "{value}"\n', 1)
    return text


def unit(program: Path) -> str:
    """The unit, for a program that is not where the packaged one expects it."""
    return packaged("lfscp.service").replace(_PROGRAM, _escaped(str(program)))


def packaged(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def program() -> Path:
    """The lfscp that runs, beside its Python."""
    return Path(sys.executable).with_name("lfscp")


def require_possible(*, is_for_real: bool) -> None:
    """Refuse a machine or a place from which no service can be made.

    Args:
        is_for_real: whether it is done; else only what would be done is shown.
    Raises:
        ServiceError: why.
    """
    found = program()
    if not found.exists():
        raise ServiceError(f"there is no program {found}; install lfscp with pip in that Python")
    if _NO_PROGRAM.search(str(found)):
        raise ServiceError(
            f"systemd runs no program with a quote, a backslash or a control in its path: {found}; "
            "install lfscp elsewhere"
        )
    for hidden in _hidden_places(_places(found)):
        raise ServiceError(
            f"the service could not read {hidden}, as homes and temporary folders are hidden from "
            "it; install lfscp elsewhere, for example, in the source tree: python3 -m venv "
            "/opt/lfscp && /opt/lfscp/bin/pip install '.[codecs]'"
        )
    for closed in _closed_folders(_places(found)):
        raise ServiceError(f"the user lfscp could not enter {closed}; chmod o+x {closed}")
    if not is_for_real:
        return
    if not _RUNNING.is_dir():
        raise ServiceError("systemd does not run here; start `lfscp serve` in another way")
    if os.geteuid() != 0:
        raise ServiceError("only root may do this; call it with sudo")


def _places(program: Path) -> Iterator[Path]:
    """What the service reads to run: the program, its Python, its packages."""
    yield program
    yield Path(sys.executable).resolve()
    yield Path(sys.prefix)
    yield Path(lfscp.__file__).resolve().parent


def _hidden_places(places: Iterator[Path]) -> Sequence[Path]:
    return [each for each in places if any(each.is_relative_to(Path(hidden)) for hidden in _HIDDEN)]


def _closed_folders(places: Iterator[Path]) -> Iterator[Path]:
    """The folders above that only their owner and group may enter."""
    for folder in dict.fromkeys(above for each in places for above in reversed(each.parents)):
        if not folder.stat().st_mode & stat.S_IXOTH:
            yield folder


def _escaped(path: str) -> str:
    """The path of a program as ExecStart takes it (systemd.service(5), command lines).

    Specifiers are expanded in it, and variables are not.
    """
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if any(each.isspace() for each in path) else escaped
