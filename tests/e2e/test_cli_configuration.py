"""Configuration as an administrator writes it, and what is said when it is wrong."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.node_process import LFSCP, environment, run_lfscp


def complaint(*arguments: object, env: dict[str, str] | None = None, code: int = 2) -> str:
    """What one command says that is asked wrongly: one line, no traceback."""
    result = run_lfscp(*arguments, env=env)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("server.prot = 104", ["server.prot", "port"]),  # and what is meant
        ("[sever]\nport = 104", ["sever"]),
        ('server.port = "many"', ["server.port", "many"]),
        ("server.port = 70000", ["server.port", "70000", "65535"]),
        ('duplicates = "forget"', ["duplicates", "forget", "keep", "replace", "reject"]),
        ('server.ae_title = "MUCH TOO LONG A TITLE"', ["server.ae_title", "16"]),
        ("server.drain_timeout_s = -1", ["server.drain_timeout_s", "-1"]),
        ('peers.DST = {host = "10.0.0.1"}', ["peers.DST", "port"]),
        ('storage.private_sop_classes = ["x"]', ["storage.private_sop_classes", "x"]),
        ("server.port = ", ["TOML"]),  # no TOML
    ],
)
def test_a_wrong_file_is_named_with_key_and_value(
    tmp_path: Path, text: str, named: list[str]
) -> None:
    file = tmp_path / "lfscp.toml"
    file.write_text(text)
    line = complaint("serve", "--config", file)
    for part in [str(file), *named]:
        assert part in line


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    line = complaint("serve", "--config", tmp_path / "none.toml")
    assert str(tmp_path / "none.toml") in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("LFSCP_SERVER__PORT", "many"), ("LFSCP_SERVER__PROT", "104"), ("LFSCP_LOGGING__LEVEL", "x")],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    assert name in complaint("serve", env={name: value})


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "many"),
        ("--max-running", "-1"),
        ("--max-waiting", "-2"),
        ("--aet", "MUCH TOO LONG A TITLE"),
        ("--log-format", "xml"),
        ("--peer", "DST"),
        ("--peer", "DST=host"),
    ],
)
def test_a_wrong_flag_is_named(flag: str, value: str) -> None:
    line = complaint("serve", flag, value)
    assert flag in line
    assert value in line


def test_an_unknown_command_or_flag_is_a_wrong_question() -> None:
    for arguments in (["serf"], ["serve", "--prot", "104"]):
        assert run_lfscp(*arguments).returncode == 2


def test_config_prints_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "lfscp.toml"
    file.write_text('server.port = 104\n[peers.DST]\nhost = "10.0.0.1"\nport = 11113\n')
    result = run_lfscp("config", "--config", file, env={"LFSCP_SERVER__AE_TITLE": "HOUSE"})
    assert result.returncode == 0, result.stderr
    values = tomllib.loads(result.stdout)
    assert values["server"]["port"] == 104
    assert values["server"]["ae_title"] == "HOUSE"
    assert values["peers"]["DST"]["host"] == "10.0.0.1"
    origins = {
        line.partition(" = ")[0]: line.partition("# ")[2] for line in result.stdout.splitlines()
    }
    assert str(file) in origins["port"]
    assert "LFSCP_SERVER__AE_TITLE" in origins["ae_title"]
    assert "default" in origins["durability"]


def test_config_template_is_a_file_that_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "lfscp.toml"
    file.write_text(run_lfscp("config", "--template").stdout)
    assert run_lfscp("config", "--config", file).returncode == 0


def test_version_names_lfscp_and_what_it_stands_on() -> None:
    result = run_lfscp("version")
    assert result.returncode == 0
    assert result.stdout.startswith("lfscp ")
    assert "pynetdicom" in result.stdout


def test_conformance_is_of_the_node_as_configured(tmp_path: Path) -> None:
    file = tmp_path / "lfscp.toml"
    private = "1.2.826.0.1.3680043.8.498.1"
    file.write_text(f'server.ae_title = "HOUSE"\nstorage.private_sop_classes = ["{private}"]\n')
    statement = run_lfscp("conformance", "--config", file).stdout
    for said in ("HOUSE", private, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.90", "ISO_IR"):
        assert said in statement


def test_output_that_nobody_reads_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [str(LFSCP), "conformance"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""
