"""The peers that the page knows: those of the configuration, and those added while it runs.

Added ones are kept in `peers.json` in the data folder. They are whom jobs may be sent to; what a
peer may ask of this node stands in the configuration alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lfscp.config.access import Peer
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.web")


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A remote application entity; `is_configured` ones cannot be removed here."""

    ae_title: str
    host: str
    port: int
    tls: bool = False
    is_configured: bool = False


class PeerBook:
    """All known peers by AE title. Any thread may ask.

    Args:
        configured: the setting `peers`.
        file: where added ones are kept.
    """

    def __init__(self, configured: Mapping[str, Peer], file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._configured = {
            title: KnownPeer(title, peer.host, peer.port, peer.tls, is_configured=True)
            for title, peer in configured.items()
        }
        self._added = {peer.ae_title: peer for peer in _read(file)}

    def all(self) -> list[KnownPeer]:
        """All of them, by AE title."""
        with self._lock:
            peers = {**self._added, **self._configured}
        return [peers[title] for title in sorted(peers)]

    def get(self, ae_title: str) -> KnownPeer | None:
        """The peer with that AE title; the configuration goes before what was added."""
        with self._lock:
            return self._configured.get(ae_title) or self._added.get(ae_title)

    def put(self, peer: KnownPeer) -> None:
        """Add a peer, or replace an added one.

        Raises:
            ValueError: the configuration has one with that AE title.
            OSError: it cannot be written.
        """
        with self._lock:
            if peer.ae_title in self._configured:
                raise ValueError(f"{peer.ae_title} is in the configuration; change it there")
            added = {**self._added, peer.ae_title: peer}
            _write(self._file, added)
            self._added = added

    def remove(self, ae_title: str) -> bool:
        """Remove an added peer; False when there is none.

        Raises:
            ValueError: it is in the configuration.
            OSError: it cannot be written.
        """
        with self._lock:
            if ae_title in self._configured:
                raise ValueError(f"{ae_title} is in the configuration; remove it there")
            if ae_title not in self._added:
                return False
            added = {title: peer for title, peer in self._added.items() if title != ae_title}
            _write(self._file, added)
            self._added = added
            return True


def _read(file: Path) -> list[KnownPeer]:
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return [
            KnownPeer(str(e["ae_title"]), str(e["host"]), int(e["port"]), bool(e.get("tls")))
            for e in entries
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        LOG.warning("the added peers cannot be read", file=file, reason=str(error))
        return []


def _write(file: Path, peers: Mapping[str, KnownPeer]) -> None:
    entries = [
        {"ae_title": peer.ae_title, "host": peer.host, "port": peer.port, "tls": peer.tls}
        for peer in peers.values()
    ]
    piece = file.with_suffix(".part")
    piece.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    os.replace(piece, file)  # noqa: PTH105 - replaced as a whole, or not at all
