"""The command line as a user meets it: exit codes, one line per mistake, no traceback."""

import os
import re
import sys

import pytest

from lfscp import __version__
from tests.support.node_process import run_lfscp


def lfscp(*arguments, **environment):
    """Run the command line in a process of its own; returns (exit code, output, errors)."""
    done = run_lfscp(*arguments, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "x"], 'lfscp: flag --port: server.port = "x": expected a whole number'),
        (["--aet", "A\\B"], "lfscp: flag --aet: server.ae_title"),
        (["--peer", "DST"], "lfscp: flag --peer 'DST': expected AET=HOST:PORT"),
        (["--http-port", "8080", "--no-http"], "lfscp: flag --http-port 8080: contradicts"),
        (["--http-port", "x"], 'lfscp: flag --http-port: web.port = "x": expected a whole number'),
        (["--workers", "x"], 'lfscp: flag --workers: pool.workers = "x": expected a whole number'),
        (["--config", "/nonexistent.toml"], "lfscp: /nonexistent.toml: cannot be read"),
    ],
)
def test_serve_refuses_a_wrong_option_in_one_line_with_exit_code_2(arguments, expected):
    code, _, errors = lfscp("serve", *arguments)

    assert (code, len(errors.splitlines())) == (2, 1)
    assert errors.startswith(expected)


def test_an_unknown_variable_is_refused_with_exit_code_2():
    code, _, errors = lfscp("config", LFSCP_SERVER__PROT="1")

    assert code == 2
    assert errors.startswith("lfscp: environment LFSCP_SERVER__PROT: no setting has this name")


def test_config_says_where_each_value_came_from(tmp_path):
    file = tmp_path / "lfscp.toml"
    file.write_text("[server]\nae_title = 'FILE'\n[peers.DST]\nhost = 'h'\nport = 104\n")

    code, output, _ = lfscp("config", "--config", str(file), LFSCP_SERVER__PORT="104")

    assert code == 0
    assert re.search(rf'^ae_title = "FILE" +# {file}$', output, re.MULTILINE)
    assert re.search(r"^port = 104 +# environment LFSCP_SERVER__PORT$", output, re.MULTILINE)
    assert re.search(r"^max_running = 0 +# default$", output, re.MULTILINE)
    assert '[peers."DST"]' in output


@pytest.mark.parametrize(("text", "said"), [("no such thing", ": no such thing"), ("", "")])
def test_what_nobody_expected_is_said_in_words(monkeypatch, capsys, text, said):
    from lfscp.cli import app, main, show

    def fail():
        raise RuntimeError(text)

    monkeypatch.setattr(show.platform, "python_version", fail)
    monkeypatch.setattr(sys, "argv", ["lfscp", "version"])
    monkeypatch.setattr(os, "umask", lambda mask: mask)
    monkeypatch.setattr(app, "_LEFT_OUT", ())  # the other tests use them
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"lfscp: internal error{said}. "
        "Please report it; LFSCP_LOGGING__LEVEL=debug shows where it happened\n"
    )


def test_version_names_what_a_bug_report_needs():
    code, output, _ = lfscp("version")

    assert code == 0
    assert output.startswith(f"lfscp {__version__}\n")
    assert re.search(r"^pynetdicom \d", output, re.MULTILINE)


def test_echo_refuses_a_target_that_is_none():
    for target in ("host", "A@host", "A@host:0", "A@:104", "A\\@host:104"):
        code, _, errors = lfscp("echo", target)
        assert code == 2
        assert "expected AET@HOST:PORT" in errors


def test_import_of_a_folder_that_is_not_there_fails(tmp_path):
    code, _, errors = lfscp("import", str(tmp_path / "no"), "--data-dir", str(tmp_path / "data"))

    assert code == 2
    assert "there is no such file or folder" in errors


def test_passwords_are_masked():
    from lfscp.config.describe import mask_password

    assert mask_password("a://u:secret@h/d") == "a://u:***@h/d"
    assert mask_password("a://u:a/b@c@h/d") == "a://u:***@h/d"
    assert mask_password("a://h/d?password=x&service=y") == "a://h/d?password=***&service=y"
    assert mask_password("sqlite:////var/x.db") == "sqlite:////var/x.db"


def test_no_summary_of_a_command_is_cut_off():
    _, output, _ = lfscp("--help", COLUMNS="80")
    commands = output[output.index("Commands:") :]
    assert len(commands.splitlines()) > 15
    assert "..." not in commands


def test_the_version_is_an_option_too():
    assert lfscp("--version") == (0, f"lfscp {__version__}\n", "")
