"""Who may associate: titles, addresses and users, decided without any association."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.config.passwords import hash_password
from lfscp.services.access import user_identity
from lfscp.services.access.admission import Admission
from lfscp.services.access.attempts import MAX_FAILURES
from lfscp.services.access.user_identity import UserIdentities
from lfscp.upperlayer.wire.rejections import Rejection

SECRET = "correct horse"  # noqa: S105 - of nobody
HASHED = hash_password(SECRET)


class Requestor:
    """What the decision looks at of an association."""

    def __init__(self, title: str, address: str, identity: Any = None) -> None:
        self.requestor = SimpleNamespace(ae_title=title, address=address, user_identity=identity)
        self.acceptor = SimpleNamespace(add_negotiation_item=lambda item: self.answers.append(item))
        self.answers: list[Any] = []
        self.limit: Rejection | None = None

    def limit_rejection(self, known_as: Callable[[], str]) -> Rejection | None:
        return self.limit


def identity(kind: int, name: bytes, passcode: bytes = b"", *, answer: bool = False) -> Any:
    """A user identity item of an A-ASSOCIATE-RQ."""
    return SimpleNamespace(
        user_identity_type=kind,
        primary_field=name,
        secondary_field=passcode,
        positive_response_requested=answer,
    )


def admission(resolve: Any = None, **given: Any) -> Admission:
    peers = {
        "CT": {"host": "10.0.0.7", "port": 104, "addresses": ["10.1.0.0/16", "fd00::1"]},
        "MR": {"host": "mr.example", "port": 104},
    }
    settings = Settings.model_validate({"peers": peers, **given})
    return Admission(CurrentSettings(settings), resolve or (lambda _host: []))


def codes(rejection: Rejection | None) -> tuple[int, int, int] | None:
    if rejection is None:
        return None
    return rejection.result, rejection.source, rejection.diagnostic


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", None),  # its host
        ("10.1.200.3", None),
        ("::ffff:10.1.200.3", None),  # as a socket for both families shows it
        ("fd00::1", None),
        ("10.2.0.1", (1, 1, 3)),
        ("", (1, 1, 3)),
    ],
)
def test_a_title_with_addresses_is_believed_from_there_only(address, expected):
    assert codes(admission()(Requestor("CT  ", address))) == expected


def test_a_caller_by_the_name_of_a_dicomweb_server_is_no_known_peer():
    peers = {"CLOUD": {"url": "https://h/dicom-web"}}
    server = {"require_known_peers": True}
    assert codes(admission(peers=peers, server=server)(Requestor("CLOUD", "10.0.0.7"))) == (1, 1, 3)
    assert codes(admission(peers=peers)(Requestor("CLOUD", "10.0.0.7"))) is None


def test_addresses_may_be_required_of_every_peer():
    asked = []

    def resolve(host):
        asked.append(host)
        return ["10.9.9.9", "fd00::9"]

    admit = admission(resolve, server={"require_peer_addresses": True})
    assert admit(Requestor("MR", "10.9.9.9")) is None
    assert admit(Requestor("MR", "fd00::9")) is None
    assert codes(admit(Requestor("MR", "10.9.9.8"))) == (1, 1, 3)
    assert asked == ["mr.example"], "a name is looked up once a minute"
    assert admit(Requestor("OTHER", "10.9.9.8")) is None, "not a peer, and none is required"


def test_unknown_titles_are_rejected_when_peers_are_required():
    admit = admission(server={"require_known_peers": True})
    stranger = admit(Requestor("OTHER", "10.0.0.7"))
    assert codes(stranger) == (1, 1, 3)
    assert stranger.reason.endswith("it is not in [peers]")
    assert admit(Requestor("MR", "10.0.0.7")) is None


def test_a_full_server_does_not_hide_a_wrong_title_and_spares_the_hash():
    admit = admission(server={"require_known_peers": True}, identity={"users": ["anna:" + HASHED]})
    stranger = Requestor("OTHER", "10.0.0.7")
    known = Requestor("MR", "10.0.0.7", identity(2, b"anna", b"wrong"))
    stranger.limit = known.limit = Rejection(2, 3, 2, "full")
    assert codes(admit(stranger)) == (1, 1, 3)
    assert codes(admit(known)) == (2, 3, 2)


USERS = {"users": [f"anna:{HASHED}", "robot"]}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, None),
        (identity(2, b"anna", SECRET.encode()), None),
        (identity(2, b"anna", b"wrong"), (1, 2, 1)),
        (identity(2, b"anna", b"\xff"), (1, 2, 1)),
        (identity(2, b"nobody", SECRET.encode()), (1, 2, 1)),
        (identity(1, b"anna"), (1, 2, 1)),  # a passcode is asked for
        (identity(1, b"robot"), None),
        (identity(2, b"robot", b"whatever"), None),
        (identity(1, b"nobody"), (1, 2, 1)),
        (identity(3, b"ticket"), (1, 2, 1)),
        (identity(4, b"<saml/>"), (1, 2, 1)),
        (identity(5, b"jwt"), (1, 2, 1)),
    ],
)
def test_users_are_verified(named, expected):
    assert codes(admission(identity=USERS)(Requestor("MR", "10.0.0.7", named))) == expected


def test_what_is_not_supported_is_said():
    rejection = admission(identity=USERS)(Requestor("MR", "10.0.0.7", identity(3, b"ticket")))
    assert rejection is not None
    assert "Kerberos" in rejection.reason


def test_users_are_not_looked_at_without_any_configured():
    assert admission()(Requestor("MR", "10.0.0.7", identity(2, b"anna", b"wrong"))) is None


def test_a_user_may_be_required():
    admit = admission(identity={**USERS, "required": True})
    assert codes(admit(Requestor("MR", "10.0.0.7"))) == (1, 2, 1)
    assert admit(Requestor("MR", "10.0.0.7", identity(1, b"robot"))) is None


def test_a_positive_response_is_given_only_when_asked_for():
    admit = admission(identity=USERS)
    silent = Requestor("MR", "10.0.0.7", identity(1, b"robot"))
    asking = Requestor("MR", "10.0.0.7", identity(1, b"robot", answer=True))
    assert admit(silent) is None
    assert admit(asking) is None
    assert silent.answers == []
    assert [answer.server_response for answer in asking.answers] == [b""]


def test_an_empty_passcode_is_no_unknown_users_passcode():
    users = Settings.model_validate({"identity": USERS}).identity
    assert not UserIdentities().is_user(users, b"nobody", b"", "10.0.0.7")
    assert not UserIdentities().is_user(users, b"", None, "10.0.0.7")


@pytest.fixture
def hashing(monkeypatch):
    """The passcodes that were hashed, and the most that were waited for at the same time."""
    seen = SimpleNamespace(texts=[], now=0, most=0)
    real, lock = user_identity.is_password, threading.Lock()

    def is_password(text, hashed):
        with lock:
            seen.texts.append(text)
            seen.now += 1
            seen.most = max(seen.most, seen.now)
        found = real(text, hashed)
        with lock:
            seen.now -= 1
        return found

    monkeypatch.setattr(user_identity, "is_password", is_password)
    return seen


def test_who_guesses_has_to_wait_and_costs_nothing_more(hashing):
    admit = admission(identity=USERS)
    rejections = [
        codes(admit(Requestor("MR", "10.0.0.7", identity(2, b"anna", b"guess %d" % number))))
        for number in range(30)
    ]
    assert rejections == [(1, 2, 1)] * MAX_FAILURES + [(2, 2, 1)] * (30 - MAX_FAILURES)
    assert len(hashing.texts) == MAX_FAILURES
    elsewhere = Requestor("MR", "10.0.0.8", identity(2, b"anna", SECRET.encode()))
    assert admit(elsewhere) is None, "the owner is not locked out"


def test_a_passcode_that_was_right_is_known_without_its_hash(hashing):
    admit = admission(identity=USERS)
    right = identity(2, b"anna", SECRET.encode())
    assert [admit(Requestor("MR", "10.0.0.7", right)) for _ in range(30)] == [None] * 30
    assert hashing.texts == [SECRET]
    for _ in range(MAX_FAILURES + 1):
        admit(Requestor("MR", "10.0.0.7", identity(2, b"anna", b"wrong")))
    assert admit(Requestor("MR", "10.0.0.7", right)) is None, "whatever others of there guess"


def test_a_passcode_is_not_known_any_longer_once_it_was_changed():
    users, one = UserIdentities(), Settings.model_validate({"identity": USERS}).identity
    changed = {"users": [f"anna:{hash_password('another')}"]}
    other = Settings.model_validate({"identity": changed}).identity
    assert users.is_user(one, b"anna", SECRET.encode(), "10.0.0.7")
    assert not users.is_user(other, b"anna", SECRET.encode(), "10.0.0.7")


def test_of_one_address_one_passcode_is_looked_at_at_a_time(hashing):
    users, settings = UserIdentities(), Settings.model_validate({"identity": USERS}).identity
    with ThreadPoolExecutor(8) as threads:
        same = [
            threads.submit(users.is_user, settings, b"anna", SECRET.encode(), "10.0.0.7")
            for _ in range(24)
        ]
        assert all(each.result() for each in same), "many at once are no guesses"
    assert hashing.most == 1
    assert hashing.texts == [SECRET]
