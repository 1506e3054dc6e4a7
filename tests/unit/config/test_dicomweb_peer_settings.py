"""DICOMweb peers in the configuration: what fits together, and that no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lfscp.cli.show import _print_settings
from lfscp.config import ConfigError, PeerSettings, Resolved, Settings, resolve_settings
from lfscp.config.peer_secrets import password_of, token_of
from lfscp.config.present import require_present
from lfscp.services.access.permissions import destination, may

SECRET = "s3cr3t-0f-the-cl0ud"  # noqa: S105 - of no one
URL = "https://pacs.example.org/dicom-web"


def resolved(folder: Path, toml: str, **given: Any) -> Resolved:
    file = folder / "lfscp.toml"
    file.write_text(toml, encoding="utf-8")
    return resolve_settings(file, environment=given.pop("environment", {}), **given)


def peer(folder: Path, toml: str) -> PeerSettings:
    return resolved(folder, f"[peers.CLOUD]\n{toml}").settings.peers["CLOUD"]


def test_a_url_takes_the_place_of_host_and_port(tmp_path):
    found = peer(tmp_path, f'url = "{URL}/"\nuser = "anna"\npassword = "{SECRET}"')
    assert (found.is_dicomweb, found.url, found.user) == (True, URL, "anna")
    assert password_of(found) == SECRET
    assert token_of(found) == ""


def test_a_peer_comes_from_flags_and_environment_too(tmp_path):
    environment = {"LFSCP_PEERS__CLOUD__TOKEN": SECRET}
    found = resolved(tmp_path, "", environment=environment, peers=[f"CLOUD={URL}"])
    cloud = found.settings.peers["CLOUD"]
    assert (cloud.url, token_of(cloud)) == (URL, SECRET)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("tls = true", "peers.CLOUD: set host, or url for a DICOMweb server"),
        (f'url = "{URL}"\nhost = "h"\nport = 1', "peers.CLOUD: leave out host, since url is set"),
        (f'url = "{URL}"\nmay = []', "peers.CLOUD: leave out may, since url is set"),
        (f'url = "{URL}"\ntls = true', "peers.CLOUD: leave out tls, since url is set"),
        ('host = "h"\nport = 1\ntoken = "t"', "peers.CLOUD: set url, since token is set"),
        ('host = "h"\nport = 1\npassword = "p"', "peers.CLOUD: set user, since password is set"),
        (f'url = "{URL}"\nuser = "u"', "set password or password_file, since user is set"),
        (f'url = "{URL}"\npassword = "p"', "set user, since password is set"),
        (f'url = "{URL}"\ntoken = "t"\nuser = "u"', "since user is set"),
        (f'url = "{URL}"\ntoken = "t"\ntoken_file = "/f"', "leave out token_file, since token is"),
        ('url = "pacs.example.org"', 'peers.CLOUD.url = "pacs.example.org": expected the URL'),
        ('url = "https://pacs.example.org/dicom-web/studies"', "server before /studies, such"),
        ('url = "ftp://pacs.example.org"', "expected the URL of a DICOMweb server"),
        ('url = "https://"', "expected the URL of a DICOMweb server"),
        ('url = "https://h/?a=b"', "expected the URL of a DICOMweb server"),
        ('url = "https://h/#a"', "expected the URL of a DICOMweb server"),
        ('url = "https://h:0/"', "expected the URL of a DICOMweb server"),
        (f'url = "https://h/{"a" * 2048}"', "expected the URL of a DICOMweb server"),
        ('url = "https://h/a b"', "expected the URL of a DICOMweb server"),
        (f'url = "{URL}"\nuser = "a:b"\npassword = "p"', "peers.CLOUD.user"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path, toml, expected):
    with pytest.raises(ConfigError) as caught:
        peer(tmp_path, toml)
    assert str(caught.value).startswith(f"{tmp_path / 'lfscp.toml'}: peers.CLOUD")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "environment"),
    [
        (f'[peers.CLOUD]\nurl = "https://anna:{SECRET}@h/"', {}),
        (f'[peers.CLOUD]\nurl = "{URL}"\ntoken = "{SECRET} x"', {}),
        (f'[peers.CLOUD]\nurl = "{URL}"\nuser = "u"\npassword = "{SECRET}\\n"', {}),
        (f'[peers.CLOUD]\nurl = "{URL}"\ntoken = ["{SECRET}"]', {}),
        (f'[peers.CLOUD]\ntoken = "{SECRET}"', {}),
        (f'[[peers.CLOUD]]\nurl = "{URL}"\ntoken = "{SECRET}"', {}),
        ("", {"LFSCP_PEERS": f'{{"CLOUD": {{"url": "{URL}", token: "{SECRET}"}}}}'}),
        ("", {"LFSCP_PEERS": json.dumps({"CLOUD": [{"token": SECRET}]})}),
        ("", {"LFSCP_PEERS__CLOUD__TOKEN": f"{SECRET} x", "LFSCP_PEERS__CLOUD__URL": URL}),
    ],
)
def test_no_complaint_shows_a_secret(tmp_path, toml, environment):
    with pytest.raises(ConfigError) as caught:
        resolved(tmp_path, toml, environment=environment)
    assert SECRET not in str(caught.value)


def test_neither_the_settings_nor_their_print_show_a_secret(tmp_path, capsys):
    toml = (
        f'[peers.A]\nurl = "{URL}"\nuser = "anna"\npassword = "{SECRET}"\n'
        f'[peers.B]\nurl = "{URL}"\ntoken = "{SECRET}"\n'
    )
    found = resolved(tmp_path, toml)
    _print_settings(found)
    printed = capsys.readouterr().out
    assert 'password = "***"' in printed
    assert 'token = "***"' in printed
    assert SECRET not in printed + repr(found.settings) + found.settings.model_dump_json()


def test_a_secret_in_a_file_is_read_when_it_is_needed(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    found = peer(tmp_path, f'url = "{URL}"\ntoken_file = "{file}"')
    assert token_of(found) == SECRET
    file.write_text("renewed")
    assert token_of(found) == "renewed"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "first line is empty"),
        (b"\n" + SECRET.encode(), "first line is empty"),
        (SECRET.encode() + b"\x07", "control characters"),
        (SECRET.encode() + b"\xff", "not UTF-8"),
    ],
)
def test_a_node_does_not_start_with_a_file_without_a_secret(tmp_path, content, expected):
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    found = resolved(
        tmp_path, f'[peers.CLOUD]\nurl = "{URL}"\nuser = "u"\npassword_file = "{file}"'
    )
    with pytest.raises(ConfigError) as caught:
        require_present(found)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'lfscp.toml'}: peers.CLOUD.password_file")
    assert expected in text
    assert SECRET not in text


def test_a_dicomweb_peer_calls_nobody_and_is_no_move_destination():
    peers = Settings.model_validate(
        {"peers": {"CLOUD": {"url": URL}, "WS": {"host": "h", "port": 104, "may": []}}}
    ).peers
    assert destination(peers, "CLOUD") is None
    assert may(peers, "CLOUD", "store")  # the caller is no peer, and only bears its name
    assert not may(peers, "WS", "store")
