"""Peers that were added with rights count for the services like those of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.services.access import served_settings
from lfscp.services.access.added_peers import AddedPeers, added_peer
from lfscp.services.access.permissions import calling_peer, destination, may
from lfscp.services.access.served_settings import ServedSettings

PLACE = {"host": "10.0.0.7", "port": 104}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_settings, "LOOK_AGAIN_S", 0.0)


def served(folder: Path, **peers: Any) -> tuple[ServedSettings, CurrentSettings, AddedPeers]:
    current = CurrentSettings(Settings.model_validate({"peers": peers}))
    # Another process has the page, and writes the file.
    return ServedSettings(current, AddedPeers(folder)), current, AddedPeers(folder)


def test_an_added_peer_may_what_it_was_added_for(tmp_path: Path) -> None:
    settings, _, page = served(tmp_path)
    assert may(settings.settings.peers, "CT1", "query"), "it is not known"

    page.put("CT1", added_peer(PLACE | {"may": ["store"]}))
    peers = settings.settings.peers
    assert may(peers, "CT1", "store")
    assert not may(peers, "CT1", "query")
    assert destination(peers, "CT1") is None
    page.put("CT1", added_peer(PLACE | {"may": ["store", "query", "destination"]}))
    assert may(settings.settings.peers, "CT1", "query")
    assert destination(settings.settings.peers, "CT1") is not None
    page.remove("CT1")
    assert calling_peer(settings.settings.peers, "CT1") is None


def test_without_rights_an_added_peer_stays_unknown_to_the_services(tmp_path: Path) -> None:
    settings, current, page = served(tmp_path)
    page.put("CT1", added_peer(PLACE))

    assert settings.settings is current.settings


def test_a_configured_peer_goes_before_an_added_one_and_a_reload_counts(tmp_path: Path) -> None:
    settings, current, page = served(tmp_path, CT1={**PLACE, "may": ["query"]})
    page.put("CT1", added_peer(PLACE | {"may": ["store"]}))
    assert not may(settings.settings.peers, "CT1", "store")

    current.settings = Settings.model_validate({"query": {"max_results": 7}})
    assert settings.settings.query.max_results == 7
    assert may(settings.settings.peers, "CT1", "store"), "it is added still"
