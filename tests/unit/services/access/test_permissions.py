"""What a configured peer may do."""

from __future__ import annotations

import pytest

from lfscp.config import PeerSettings
from lfscp.services.access.permissions import destination, may

PEERS = {
    "SENDER": PeerSettings(host="127.0.0.1", port=104, may=("echo", "store")),
    "SCREEN": PeerSettings(host="127.0.0.1", port=105, may=("query", "retrieve", "destination")),
}


@pytest.mark.parametrize(
    ("title", "right", "expected"),
    [
        ("SENDER", "store", True),
        ("SENDER", "query", False),
        (" SENDER  ", "retrieve", False),
        ("SCREEN", "store", False),
        ("SOMEBODY", "store", True),
        ("sender", "query", True),  # AE titles are compared with regard to case
    ],
)
def test_rights_are_the_peers_own(title: str, right: str, expected: bool) -> None:
    assert may(PEERS, title, right) is expected


def test_destination_is_a_known_peer_that_may_be_one() -> None:
    assert destination(PEERS, "SCREEN ") is PEERS["SCREEN"]
    assert destination(PEERS, "SENDER") is None
    assert destination(PEERS, "SOMEBODY") is None
