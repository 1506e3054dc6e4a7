"""Folders: their rights, and the room on their disks; files with secrets."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.archive import OBJECTS
from lfscp.archive.store.file_systems import lacks_journal
from lfscp.archive.store.space import Space
from lfscp.doctor.finding import Finding, fine, warning, wrong

if TYPE_CHECKING:
    from lfscp.config import Resolved, Settings

_RIGHTS: Final = "rights"
_DISK: Final = "disk"
_FEW_FILES: Final = 0.02  # of all inodes
_SECRET_KEYS: Final = ("password", "password_file", "token", "token_file")


def examine(resolved: Resolved) -> Iterator[Finding]:
    """The data folder, that of the objects, their disks, and who may read secrets."""
    settings = resolved.settings
    there = []
    for name, folder in _folders(settings):
        if folder.is_dir():
            there.append(folder)
            yield _rights(name, folder)
        else:
            yield _could_be_made(name, folder)
    yield from _disks(there, settings)
    yield from _secrets(resolved)


def _folders(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "data_dir", settings.data_dir
    if not settings.objects.is_bucket:
        yield "objects", settings.objects.root or settings.data_dir / OBJECTS


def _rights(name: str, folder: Path) -> Finding:
    owner = _name_of(folder.stat().st_uid)
    us = os.geteuid()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        me = _name_of(us)
        advice = f"sudo -u '{owner}' lfscp doctor; or chown -R '{me}' {folder}"
        return wrong(_RIGHTS, f"{name}: {folder} is of {owner}, and {me} may not use it", advice)
    if folder.stat().st_mode & stat.S_IRWXO:
        text = f"{name}: everybody on this machine may look into {folder}"
        return warning(_RIGHTS, text, f"chmod o= {folder}")
    if us == 0 and owner != "root":
        text = f"{name}: {folder} is of {owner}, and you are root"
        advice = (
            f"run the other commands as its owner, else new files are of root: sudo -u '{owner}'"
        )
        return warning(_RIGHTS, text, advice)
    return fine(_RIGHTS, f"{name}: {folder} may be used, and is of {owner}")


def _name_of(uid: int) -> str:
    """The name of a user; sudo and chown take #UID and UID of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as of containers that run under a number
        return f"#{uid}"


def _could_be_made(name: str, folder: Path) -> Finding:
    if os.path.lexists(folder):
        advice = "name a folder, or remove what is there"
        return wrong(_RIGHTS, f"{name}: {folder} is no folder", advice)
    above = next(each for each in folder.parents if each.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK, effective_ids=True):
        return fine(_RIGHTS, f"{name}: {folder} is not there yet; the first start makes it")
    advice = f"make it as root, for the user of the node: install -d -o USER -m 750 {folder}"
    return wrong(_RIGHTS, f"{name}: {folder} is not there, and cannot be made in {above}", advice)


def _disks(folders: list[Path], settings: Settings) -> Iterator[Finding]:
    seen = set()
    for folder in folders:
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        found = os.statvfs(folder)
        free = f"{found.f_bavail * found.f_frsize / 1e9:.1f} GB"
        shortage = Space([folder], settings.storage.reserve_mb).shortage
        if shortage:
            advice = "make room, or let retention do it: [retention]; nothing is stored until then"
            yield wrong(_DISK, f"{folder}: {shortage}", advice)
        elif found.f_files and found.f_favail < found.f_files * _FEW_FILES:
            text = f"{folder}: the file system has room for {found.f_favail} more files only"
            yield warning(_DISK, text, "move the objects to a file system with more inodes")
        elif lacks_journal(str(folder)):
            text = f"{folder}: this ext4 has no journal, so a power cut may lose stored objects"
            advice = "use xfs, or give it one while it is not mounted: tune2fs -O has_journal"
            yield warning(_DISK, text, advice)
        else:
            yield fine(_DISK, f"{folder}: {free} are free")


def _secrets(resolved: Resolved) -> Iterator[Finding]:
    files = {origin for path, origin in resolved.origins.items() if _is_secret(path)}
    for peer in resolved.settings.peers.values():
        files |= {peer.password_file, peer.token_file, peer.tls_key_file}
    tls = resolved.settings.tls
    files.add(tls.key_file or tls.certificate_file if tls.enabled else "")
    for name in sorted(filter(None, files)):
        with suppress(OSError):  # a source that is no file, or one that its user will miss
            if Path(name).stat().st_mode & stat.S_IROTH:
                text = f"everybody on this machine may read {name}, which has secrets"
                yield warning(_RIGHTS, text, f"chmod o-r {name}")


def _is_secret(path: tuple[str, ...]) -> bool:
    return path[-1] in (*_SECRET_KEYS, "client_secret", "users", "tokens") or path == (
        "index",
        "url",
    )
