"""Keeps the peers that were added while the node runs, on its page or by its API: `peers.json`.

The page's process writes the file; any process that serves reads it again when it has changed.
Jobs may talk to added peers, and objects may be moved to them. A peer that was added with rights
(`may`) is known to the services like one of the configuration; see `served_settings`. The login for
a DICOMweb peer is in the configuration alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from lfscp.archive.durability import write_whole
from lfscp.config import PeerSettings
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.node")
PEERS_FILE: Final = "peers.json"
_FURTHER: Final = ("tls_verify", "may")


class AddedPeers:
    """The added peers of one node by AE title. Any thread of any process may ask.

    Args:
        data_dir: of the node.
    """

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / PEERS_FILE
        self._lock = threading.Lock()
        self._read_at: tuple[int, int, int] | None = None
        self._peers: dict[str, PeerSettings] = {}

    def all(self) -> Mapping[str, PeerSettings]:
        """All added peers."""
        with self._lock:
            self._refresh()
            return self._peers

    def get(self, ae_title: str) -> PeerSettings | None:
        """The one with that AE title."""
        return self.all().get(ae_title)

    def with_rights(self) -> Mapping[str, PeerSettings]:
        """Those that were added with what they may ask of this node."""
        return {title: peer for title, peer in self.all().items() if "may" in peer.model_fields_set}

    def put(self, ae_title: str, peer: PeerSettings) -> None:
        """Add a peer, or replace it.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self._refresh()
            self._write({**self._peers, ae_title: peer})

    def remove(self, ae_title: str) -> bool:
        """Remove a peer; False when there is none.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self._refresh()
            if ae_title not in self._peers:
                return False
            self._write({title: each for title, each in self._peers.items() if title != ae_title})
            return True

    def _refresh(self) -> None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._peers, self._read_at = {}, None
            return
        except OSError as error:
            LOG.warning("the added peers cannot be read", file=self._file, reason=str(error))
            return
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self._read_at:
            self._peers, self._read_at = _read(self._file), version

    def _write(self, peers: dict[str, PeerSettings]) -> None:
        entries = [{"ae_title": title, **_place(peer)} for title, peer in peers.items()]
        write_whole(self._file, json.dumps(entries, indent=1))
        self._peers, self._read_at = peers, None


def added_peer(entry: Mapping[str, Any]) -> PeerSettings:
    """A peer from its place: `url`, or `host`, `port`, `tls`, `tls_verify` and `may`.

    Raises:
        KeyError, ValidationError: something is missing or wrong.
    """
    if entry.get("url"):
        return PeerSettings(url=entry["url"])
    place = {"host": entry["host"], "port": entry["port"], "tls": bool(entry.get("tls"))}
    further = {name: entry[name] for name in _FURTHER if entry.get(name) is not None}
    return PeerSettings.model_validate(place | further)


def _place(peer: PeerSettings) -> dict[str, Any]:
    if peer.is_dicomweb:
        return {"url": peer.url}
    place = {"host": peer.host, "port": peer.port, "tls": peer.tls}
    given = {name: getattr(peer, name) for name in _FURTHER if name in peer.model_fields_set}
    return place | given


def _read(file: Path) -> dict[str, PeerSettings]:
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return {str(each["ae_title"]): added_peer(each) for each in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        LOG.warning("the added peers cannot be read", file=file, reason=str(error))
        return {}
