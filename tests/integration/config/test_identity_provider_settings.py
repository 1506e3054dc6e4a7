"""The settings of an identity provider: what fits together, what is said, what a reload changes."""

from __future__ import annotations

import pytest

from lfscp.cli.show import _print_settings
from lfscp.config import ConfigError, resolve_settings
from lfscp.config.current import renew
from lfscp.config.oidc import read_mapped_role
from lfscp.config.present import require_present
from lfscp.config.roles import Role
from tests.support.certificates import Authority

ISSUER = 'issuer = "https://idp.example.org/realms/h"\n'
CLIENT = ISSUER + 'client_id = "lfscp"\n'


@pytest.fixture
def resolve(tmp_path):
    file = tmp_path / "lfscp.toml"

    def resolve(oidc, environment=None):
        file.write_text(f"[web.oidc]\n{oidc}", encoding="utf-8")
        return resolve_settings(file, environment=environment or {})

    return resolve


def complaint(of, *given):
    with pytest.raises(ConfigError) as caught:
        of(*given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('issuer = "http://idp.example.org"', "issuer = "),
        ('issuer = "https://a:b@idp.example.org"', "http:// only on loopback"),
        ('issuer = "https://idp.example.org/?a=1"', "http:// only on loopback"),
        ('issuer = "file:///etc"', "http:// only on loopback"),
        (ISSUER, "web.oidc: set client_id for logins at the page, or audience"),
        ('client_id = "lfscp"', "web.oidc: set issuer too"),
        ('audience = "lfscp"', "web.oidc: set issuer too"),
        (CLIENT + 'roles = ["admins"]', "expected VALUE:ROLE; ROLE is read, work or admin"),
        (CLIENT + 'roles = ["admins:root"]', "expected VALUE:ROLE"),
        (CLIENT + 'role_claim = "a..b"', "the name of a claim"),
        (CLIENT + 'scopes = ["profile"]', "put openid into scopes"),
        (CLIENT + 'scopes = ["openid", "a b"]', "a scope without spaces"),
        (CLIENT + 'public_url = "https://pacs.example.org/page"', "expected an origin"),
        (CLIENT + "session_s = 0", "expected greater than 0"),
        (CLIENT + "session_s = 50000", "expected at most 43200"),
        (CLIENT + 'client_secret = "a"\nclient_secret_file = "/b"', "not both"),
        (ISSUER + 'audience = "a"\nclient_secret = "b"', "set client_id, since there is a client"),
        (CLIENT + 'clientid = "a"', "web.oidc.clientid: unknown key; did you mean client_id?"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(resolve, tmp_path, given, expected):
    text = complaint(resolve, given)
    assert text.startswith(f"{tmp_path / 'lfscp.toml'}: web.oidc")
    assert expected in text


def test_the_environment_sets_a_key_of_a_section_in_a_section(resolve):
    environment = {"LFSCP_WEB__OIDC__CLIENT_ID": "other", "LFSCP_WEB__OIDC__SCOPES": '["openid"]'}
    resolved = resolve(CLIENT, environment)
    oidc = resolved.settings.web.oidc
    assert (oidc.client_id, oidc.scopes) == ("other", ("openid",))
    assert resolved.origin(("web", "oidc", "client_id")) == "environment LFSCP_WEB__OIDC__CLIENT_ID"


def test_the_variable_that_is_at_fault_is_named_not_one_of_the_page(resolve):
    environment = {"LFSCP_WEB__OIDC__AUDIENCE": "x", "LFSCP_WEB__HOST": "127.0.0.1"}
    assert complaint(resolve, "", environment).startswith("environment LFSCP_WEB__OIDC__AUDIENCE:")


def test_another_table_of_the_page_is_unknown_and_a_word_is_no_table(resolve, tmp_path):
    file = tmp_path / "other.toml"
    file.write_text("[web.oidcc]\nissuer = 'x'\n", encoding="utf-8")
    text = complaint(lambda: resolve_settings(file, environment={}))
    assert "web.oidcc: unknown key; did you mean oidc?" in text
    file.write_text("[web]\noidc = 'x'\n", encoding="utf-8")
    assert "expected a table" in complaint(lambda: resolve_settings(file, environment={}))


def test_a_provider_is_enough_for_an_address_that_others_reach(resolve):
    environment = {"LFSCP_WEB__HOST": "0.0.0.0"}  # noqa: S104 - what is to be allowed
    assert resolve(CLIENT, environment).settings.web.needs_login


def test_a_secret_is_shown_neither_by_the_command_nor_by_a_complaint(resolve, capsys):
    _print_settings(resolve(CLIENT + 'client_secret = "hush-hush"'))
    shown = capsys.readouterr().out
    assert 'client_secret = "***"' in shown
    assert 'issuer = "https://idp.example.org/realms/h"' in shown
    text = complaint(resolve, CLIENT + 'client_secret = ["hush-hush"]')
    assert "hush" not in shown + text
    assert "client_secret" in text


def test_a_reload_changes_the_section_and_leaves_the_page_as_it_is(resolve):
    old = resolve(CLIENT).settings
    new = resolve(CLIENT + 'role_claim = "groups"', {"LFSCP_WEB__PORT": "9"}).settings
    renewal = renew(old, new)
    assert renewal.settings.web.oidc == new.web.oidc
    assert renewal.settings.web.port == old.web.port
    assert (renewal.changed, renewal.waiting) == (("web.oidc.role_claim",), ("web.port",))


def test_values_with_colons_are_mapped():
    assert read_mapped_role("urn:group:radiology:work") == ("urn:group:radiology", Role.WORK)


def test_a_start_needs_the_files_that_are_named(resolve, tmp_path):
    secret = tmp_path / "secret"
    given = CLIENT + f'client_secret_file = "{secret}"\n'
    assert "client_secret_file" in complaint(require_present, resolve(given))
    secret.write_text("\nsecond line", encoding="utf-8")
    assert "secret in its first line" in complaint(require_present, resolve(given))
    secret.write_text("hush\n", encoding="utf-8")
    require_present(resolve(given))
    authority = tmp_path / "ca.pem"
    given = CLIENT + f'ca_file = "{authority}"\n'
    assert "web.oidc.ca_file" in complaint(require_present, resolve(given))
    authority.write_text("no certificate", encoding="utf-8")
    assert "certificates in PEM" in complaint(require_present, resolve(given))
    given = CLIENT + f'ca_file = "{Authority(tmp_path / "authority").file}"\n'
    require_present(resolve(given))
