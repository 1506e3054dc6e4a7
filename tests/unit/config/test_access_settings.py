"""The settings of who may come in, and what of all settings changes in a node that runs."""

import pytest
from pydantic import ValidationError

from lfscp.config import Settings
from lfscp.config.current import CurrentSettings, renew
from lfscp.services.access.permissions import destination

PEER = {"host": "h", "port": 104}


def settings(**given):
    return Settings.model_validate(given)


def test_addresses_become_networks():
    peer = {**PEER, "addresses": ["10.0.0.7", "10.1.2.3/16", "fd00::/8"]}
    made = settings(peers={"A": peer}).peers["A"]
    assert made.addresses == ("10.0.0.7/32", "10.1.0.0/16", "fd00::/8")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"peers": {"A": {**PEER, "addresses": ["10.0.0"]}}}, "an address or a network"),
        ({"identity": {"users": ["anna:secret"]}}, "NAME:HASH"),
        ({"identity": {"users": [":scrypt$1$1$1$a$b"]}}, "NAME:HASH"),
        ({"identity": {"required": True}}, "users, since required is true"),
        ({"tls": {"enabled": True}}, "certificate_file, since enabled is true"),
        ({"tls": {"client_auth": "optional"}}, "ca_file, since client_auth is optional"),
        ({"server": {"plain": False}}, "enabled, since server.plain is false"),
    ],
)
def test_what_is_wrong_is_said(given, expected):
    with pytest.raises(ValidationError, match=expected):
        settings(**given)


def test_a_requestor_may_be_held_to_destinations():
    peers = settings(
        peers={"WS": PEER, "PACS": PEER, "CT": {**PEER, "may_move_to": ["WS"]}},
    ).peers
    assert destination(peers, "WS", "CT") is peers["WS"]
    assert destination(peers, "PACS", "CT") is None
    assert destination(peers, "PACS", "OTHER") is peers["PACS"]


def test_only_what_can_change_changes():
    old = settings(server={"port": 104, "max_associations": 1}, peers={"A": PEER})
    new = settings(server={"port": 105, "max_associations": 2}, peers={"B": PEER})

    renewal = renew(old, new)

    assert renewal.changed == ("server.max_associations", "peers")
    assert renewal.waiting == ("server.port",)
    assert (renewal.settings.server.port, renewal.settings.server.max_associations) == (104, 2)
    assert list(renewal.settings.peers) == ["B"]
    assert renew(new, new).changed == ()


def test_whoever_holds_the_current_settings_sees_the_change():
    current = CurrentSettings.of(settings())
    held = CurrentSettings.of(current)
    current.settings = settings(query={"max_results": 5})
    assert held.settings.query.max_results == 5


@pytest.mark.parametrize(
    ("section", "key", "most"),
    [("server", "drain_timeout_s", 86400.0), ("jobs", "keep_days", 36500.0)],
)
def test_a_setting_s_own_limit_holds_where_its_type_has_a_wider_one(section, key, most):
    settings(**{section: {key: most}})
    with pytest.raises(ValidationError, match=f"less than or equal to {most:.0f}"):
        settings(**{section: {key: most + 1}})
