"""Where settings come from, and what is said when one is wrong."""

import json
import tomllib
from pathlib import Path

import pytest

from lfscp.config import ConfigError, Settings, resolve_settings
from lfscp.config.current import renew
from lfscp.config.describe import leaves, template, toml_value
from lfscp.config.sources import origin_of


def resolve(tmp_path, toml="", environment=None, flags=None, peers=()):
    file = tmp_path / "lfscp.toml"
    file.write_text(toml, encoding="utf-8")
    return resolve_settings(file, environment=environment or {}, flags=flags, peers=peers)


def complaint(tmp_path, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, *args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text


def test_without_any_source_everything_has_its_default(tmp_path):
    resolved = resolve(tmp_path)

    assert Settings() == resolved.settings
    assert resolved.origin(("server", "port")) == "default"


def test_environment_goes_before_the_file_and_flags_before_both(tmp_path):
    toml = '[server]\nport = 1\nae_title = "FILE"\nhost = "file"\n'
    environment = {"LFSCP_SERVER__AE_TITLE": "ENV", "LFSCP_SERVER__HOST": "env", "HOME": "/"}

    resolved = resolve(tmp_path, toml, environment, {"server.host": "flag"})

    server = resolved.settings.server
    assert (server.port, server.ae_title, server.host) == (1, "ENV", "flag")
    assert resolved.origin(("server", "port")) == str(tmp_path / "lfscp.toml")
    assert resolved.origin(("server", "ae_title")) == "environment LFSCP_SERVER__AE_TITLE"
    assert resolved.origin(("server", "host")) == "flag --host"


def test_lists_in_the_environment_are_json(tmp_path):
    roots = ["/srv/in", "/srv/out"]

    resolved = resolve(tmp_path, environment={"LFSCP_WEB__ROOTS": json.dumps(roots)})

    assert tuple(map(Path, roots)) == resolved.settings.web.roots


def test_peers_come_from_every_source_and_are_merged(tmp_path):
    toml = '[peers.ONE]\nhost = "a"\nport = 104\nmay = ["echo"]\n'
    environment = {"LFSCP_PEERS__TWO__HOST": "b", "LFSCP_PEERS__TWO__PORT": "105"}

    resolved = resolve(tmp_path, toml, environment, peers=["ONE=c:106", "SIX=[::1]:107"])

    peers = resolved.settings.peers
    assert {t: p.host for t, p in peers.items()} == {"ONE": "c", "TWO": "b", "SIX": "::1"}
    assert {t: p.port for t, p in peers.items()} == {"ONE": 106, "TWO": 105, "SIX": 107}
    assert peers["ONE"].may == ("echo",)


def test_ae_titles_lose_spaces_around_them(tmp_path):
    resolved = resolve(tmp_path, "server.ae_title = ' NODE '\n[peers.' A B ']\nhost='h'\nport=1")

    assert resolved.settings.server.ae_title == "NODE"
    assert list(resolved.settings.peers) == ["A B"]


def test_systemd_names_the_data_folder_when_nobody_else_does(tmp_path):
    environment = {"STATE_DIRECTORY": "/var/lib/lfscp:/var/lib/other"}

    assert Path("/var/lib/lfscp") == resolve(tmp_path, "", environment).settings.data_dir
    assert Path("/srv") == resolve(tmp_path, "data_dir = '/srv'", environment).settings.data_dir


def test_the_file_is_found_by_variable(tmp_path):
    file = tmp_path / "named.toml"
    file.write_text("duplicates = 'reject'", encoding="utf-8")

    resolved = resolve_settings(environment={"LFSCP_CONFIG": str(file)})

    assert resolved.settings.duplicates == "reject"


def test_the_password_for_a_peer_is_no_setting():
    resolve_settings(environment={"LFSCP_PEER_PASSWORD": "hunter2"})


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[server]\nprot = 1", ["server.prot: unknown key; did you mean port?"]),
        *(
            (f"[index]\nurl = '{url}'", [f'index.url = "{url}"', "expected empty, or an SQLA"])
            for url in (
                *("postgresql://u@h:abc/x", "postgresql://u@h:99999/x", "postgresql://u@h:0/x"),
                *("postgresql://u@[::1/x", "postgresql://u@h/x?port=abc", "sqlite:///"),
                *("sqlite:///:memory:", "sqlite:////a%00b", "mysql://h/x"),
            )
        ),
        *(
            (f"[objects]\nurl = '{url}'", [f'objects.url = "{url}"', "s3://bucket/prefix"])
            for url in ("file://[/x", "file:///%00x", "s3://b:99/x", "s3://[::1/x", "file://h/x")
        ),
        *(
            (f"[objects]\nendpoint = '{url}'", [f'objects.endpoint = "{url}"', "https://host:"])
            for url in (
                *("https://h:abc", "https://h:99999", "https://h:0", "https://[::1", "h:9000"),
                *("https://a..b", "https://h /x", "https://"),
            )
        ),
        *(
            (f"[peers.A]\nport = 104\nhost = '{host}'", [f'peers.A.host = "{host}"', "a host"])
            for host in ("", " ", "a..b", "a b", "u@h", "h/x", "x" * 70)
        ),
        ('data_dir = "a\\u0000b"', ["data_dir", "the path of a folder"]),
        ("[sever]\nport = 1", ["sever: unknown key; did you mean server?"]),
        ("[server]\nport = 70000", ["server.port = 70000: expected", "65535"]),
        ("[server]\nport = '104'", ['server.port = "104": expected a whole number']),
        ("[server]\nport = true", ["server.port = true: expected a whole number"]),
        ("[server]\nacse_timeout_s = 0", ["server.acse_timeout_s = 0: expected greater than 0"]),
        ("[server]\nacse_timeout_s = inf", ["server.acse_timeout_s", "finite"]),
        ("[server]\nae_title = 'A\\B'", ["server.ae_title", "without backslash"]),
        ("[server]\nae_title = 'ABCDEFGHIJKLMNOPQ'", ["server.ae_title", "1 to 16"]),
        ("[server]\nae_title = '  '", ["server.ae_title", "1 to 16"]),
        ('[server]\nae_title = "A\\u001b"', ["server.ae_title", "control"]),
        ("server = 1", ["server = 1: expected a table"]),
        ("[server]\nhost = ''", ['server.host = "": expected at least 1 character']),
        ("[server]\nhost = 1", ["server.host = 1: expected text in quotes"]),
        ("[web]\nenabled = 'yes'", ['web.enabled = "yes": expected true or false']),
        ("[tls]\nenabled = true", [": tls: set certificate_file, since enabled is true"]),
        ("[peers.A]\nhost = 'h'\nport = 1\nprot = 1", ["peers.A.prot: unknown key; did you mean"]),
        ("pol = 1", ["pol: unknown key; did you mean pool?"]),
        ("data_dir = 1", ["data_dir = 1: expected a path in quotes"]),
        ("[storage]\nreserve_mb = -2", ["reserve_mb = -2: expected at least -1"]),
        ("durability = 'half'", ["durability = \"half\": expected 'full' or 'os'"]),
        ("[pool]\nmax_waiting = -2", ["pool.max_waiting = -2: expected", "-1"]),
        ("[pool]\nmax_running = -1", ["pool.max_running = -1: expected", "0"]),
        ("[peers.A]\nhost = 'h'", ["peers.A: set port, or url"]),
        ("[peers.A]\nhost = 'h'\nport = 1\nmay = ['fly']", ['"fly"', "'destination'"]),
        ("[peers]\nA = {host='h', port=1}\n'A ' = {host='h', port=1}", ["peers", "twice"]),
        ("[objects]\nurl = 's3://bucket:80/x'", ["objects.url", "file:///"]),
        ("[objects]\nendpoint = 'http://s3:9000'", ["objects", "allow_http = true"]),
        ("[objects]\nendpoint = 'https://k:s@s3'", ["objects.endpoint", "https://host:port"]),
        ("[index]\nurl = 'mysql://u:secret@h/db'", ["index.url", "postgresql", "u:***@h"]),
        ("[storage]\nprivate_sop_classes = ['1.2.x']", ["storage.private_sop_classes", "UID"]),
        ("port = @", ["expected TOML", "line 1"]),
    ],
)
def test_a_wrong_file_is_named_with_key_value_and_expectation(tmp_path, toml, expected):
    text = complaint(tmp_path, toml)

    assert text.startswith(f"{tmp_path / 'lfscp.toml'}: ")
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LFSCP_SERVER__PORT", "x", 'server.port = "x": expected a whole number'),
        ("LFSCP_SERVER__PORT", "0x50", "expected a whole number"),
        ("LFSCP_SERVER__PROT", "1", "no setting has this name; did you mean LFSCP_SERVER__PORT?"),
        ("LFSCP_SERVER", "{}", "no setting has this name"),
        ("LFSCP_SERVER__REQUIRE_KNOWN_PEERS", "maybe", "expected true or false"),
        ("LFSCP_WEB__ROOTS", "/srv", "expected JSON"),
        ("LFSCP_WEB__ROOTS", '"/srv"', "expected a list"),
        ("LFSCP_PEERS", "[]", "expected a JSON object"),
        ("LFSCP_PEERS__A__NAME", "x", "no setting has this name"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, name, value, expected):
    text = complaint(tmp_path, environment={name: value})

    assert text.startswith(f"environment {name}: ")
    assert expected in text


@pytest.mark.parametrize("peer", ["A", "A=", "A=h", "A=h:", "A=h:0", "A=:1", "=h:1", "A\\=h:1"])
def test_a_wrong_peer_option_says_what_it_should_look_like(tmp_path, peer):
    assert "expected AET=HOST:PORT" in complaint(tmp_path, peers=[peer])


def test_a_wrong_flag_is_named(tmp_path):
    text = complaint(tmp_path, flags={"server.port": "-1"})

    assert text.startswith("flag --port: server.port = -1: expected")


def test_everything_that_is_wrong_is_said_at_once_one_line_each(tmp_path):
    toml = '[server]\nport = 0.5\nhots = "h"\n[peers.ONE]\nhost = "h"\nport = "x"\n[log]\n'
    environment = {
        "LFSCP_SERVER__BACKLOG": "many",
        "LFSCP_SERVR__PORT": "1",
        "LFSCP_PEERS__TWO__PORT": "port",
        "LFSCP_PEERS__TWO__HOST": "h",
        "LFSCP_WEB__ROOTS": "/srv",
    }
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, toml, environment, {"pool.max_running": "all"}, peers=["no"])
    file = f"{tmp_path / 'lfscp.toml'}: "
    beginnings = [
        'environment LFSCP_PEERS__TWO__PORT: peers.TWO.port = "port": expected a whole number',
        'environment LFSCP_SERVER__BACKLOG: server.backlog = "many": expected a whole number',
        "environment LFSCP_SERVR__PORT: no setting has this name; did you mean LFSCP_SERVER__",
        'environment LFSCP_WEB__ROOTS: web.roots = "/srv": expected JSON',
        'flag --max-running: pool.max_running = "all": expected a whole number',
        "flag --peer 'no': expected AET=HOST:PORT",
        f"{file}log: unknown key",
        f'{file}peers.ONE.port = "x": expected a whole number',
        f"{file}server.hots: unknown key; did you mean host?",
        f"{file}server.port = 0.5: expected a whole number",
    ]
    said = sorted(caught.value.complaints)
    assert len(said) == len(beginnings), said  # not that TWO has no port, as this was said
    for line, beginning in zip(said, sorted(beginnings), strict=True):
        assert line.startswith(beginning)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing.toml: cannot be read: No such file"):
        resolve_settings(tmp_path / "missing.toml", environment={})


def test_a_value_in_the_place_of_a_table_is_blamed_on_who_gave_it(tmp_path):
    text = complaint(tmp_path, "server = 1", environment={"LFSCP_SERVER__PORT": "104"})

    assert text == f"{tmp_path / 'lfscp.toml'}: server = 1: expected a table"


def test_an_escape_sequence_in_a_wrong_key_does_not_reach_the_terminal(tmp_path):
    complaint(tmp_path, '"\\u001b[31m" = 1')  # complaint() tests that the text is printable


def test_the_settings_of_a_plug_in_keep_their_source_at_a_reload(tmp_path):
    first = resolve(tmp_path, '[plugins.settings.webhook]\nurl = "a"\n').settings
    second = resolve(tmp_path, '[plugins.settings.other]\nurl = "b"\n').settings

    renewed = renew(first, second).settings

    for settings in (first, renewed):
        source = origin_of(settings.origins, ("plugins", "settings"))
        assert source == str(tmp_path / "lfscp.toml")
    assert ("plugins", "settings", "webhook", "url") not in renewed.origins


def test_the_template_is_toml_and_changes_nothing():
    assert Settings() == Settings.model_validate(tomllib.loads(template()))


def test_the_template_with_every_key_given_is_accepted():
    given = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2] not in (" ", "") else line
        for line in template().splitlines()
    )

    settings = Settings.model_validate(tomllib.loads(given))

    assert list(settings.peers) == ["WORKSTATION"]
    assert [each.name for each in settings.coercion] == ["NAME"]
    lists = {"coercion": (), "route": ()}
    named = {"peers": {}, "data_dir": Settings().data_dir, **lists}
    assert settings.model_copy(update=named) == Settings()


def test_every_value_is_written_as_the_toml_that_reads_back_to_it():
    for value in ('a"\\\n\x7f\x1bä', 3, -1.5, True, ["a", "b"], []):
        assert value == tomllib.loads(f"v = {toml_value(value)}")["v"]


def test_every_setting_has_help_and_its_own_variable():
    assert all(leaf.help.endswith((".", "limit.")) for leaf in leaves())
    assert len(leaves()) == len({leaf.variable for leaf in leaves()})
