"""What may be a plug-in, and how one that cannot be is refused."""

from __future__ import annotations

import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from lfscp.config import ConfigError
from lfscp.plugins import hook, loading
from lfscp.plugins.loading import load
from tests.support.node_process import run_lfscp
from tests.support.plugin_files import plugin, settings_of

WRONG = [
    ("def stored(:", "line 3: "),
    ("1 / 0", "line 3: division by zero"),
    ("import no_such_module", "line 3: No module named 'no_such_module'"),
    ("raise SystemExit", "line 3: it ends the process when it is loaded"),
    ("x = 1", "it has no hook"),
    ("@hook\ndef storred(node): ...", "there is no hook storred"),
    ("@hook\ndef stored(what): ...", "stored has no argument what; it has stored, node"),
    ("@hook\ndef stored(*all): ...", "stored: name each argument"),
    ("@hook\nasync def stored(node): ...", "stored is async or a generator"),
    ("@hook\ndef stored(node): yield", "stored is async or a generator"),
    ("@hook(wrapper=True)\ndef stored(node): return (yield)", "stored is a wrapper"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_a_plug_in_that_cannot_be_used_is_refused_with_file_key_and_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = plugin(tmp_path, "wrong", text)
    with pytest.raises(ConfigError) as raised:
        load(settings_of(tmp_path, file).plugins)
    assert str(raised.value).startswith(f"plugins.files: {file}: {reason}")
    assert "\n" not in str(raised.value)
    assert "Error" not in str(raised.value)


def test_a_file_that_is_missing_or_has_a_name_of_its_own_kind_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.py"
    with pytest.raises(ConfigError, match=f"plugins.files: {missing}: No such file"):
        load(settings_of(tmp_path, missing).plugins)
    odd = plugin(tmp_path, "odd name", "@hook\ndef stored(node): ...")
    with pytest.raises(ConfigError, match="letters, digits"):
        load(settings_of(tmp_path, odd).plugins)


def test_two_plug_ins_of_one_name_and_settings_of_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    text = "@hook\ndef stored(node): ..."
    files = plugin(tmp_path, "same", text), plugin(tmp_path / "other", "same", text)
    with pytest.raises(ConfigError, match="another plug-in has the name same too"):
        load(settings_of(tmp_path, *files).plugins)
    settings = settings_of(tmp_path, files[0], settings={"sane": {"url": "x"}})
    with pytest.raises(ConfigError, match=r"plugins.settings.sane: .*; there are same"):
        load(settings.plugins)


def test_what_has_not_changed_stays_the_same_plug_in(tmp_path: Path) -> None:
    kept = plugin(tmp_path, "kept", "@hook\ndef stored(node): ...")
    changed = plugin(tmp_path, "changed", "@hook\ndef stored(node): ...")
    settings = settings_of(tmp_path, kept, changed).plugins
    before = load(settings)
    plugin(tmp_path, "changed", "@hook\ndef found(node): ...")
    after = load(settings, before)
    assert after[0] is before[0]
    assert (before[1].hooks, after[1].hooks) == (("stored",), ("found",))


class Installed:
    """A plug-in of a package."""

    @hook
    def startup(self) -> None:
        """Do nothing."""


def test_installed_plug_ins_come_by_their_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("installed", f"{__name__}:PLUGIN", "lfscp.plugins")
    monkeypatch.setattr(EntryPoint, "load", lambda _self: Installed())
    monkeypatch.setattr(EntryPoint, "dist", SimpleNamespace(name="package", version="1.2"))
    monkeypatch.setattr(loading, "entry_points", lambda group: [point])
    (found,) = load(settings_of(tmp_path).plugins)
    assert (found.name, found.source, found.hooks) == (
        *("installed", "package package 1.2"),
        ("startup",),
    )
    assert load(settings_of(tmp_path, disabled=["installed"]).plugins) == ()
    with pytest.raises(ConfigError, match=r"plugins.disabled: other: .*; there are installed"):
        load(settings_of(tmp_path, disabled=["other"]).plugins)


def test_the_command_lists_plug_ins_and_says_what_is_wrong(tmp_path: Path) -> None:
    file = plugin(tmp_path, "mine", "@hook\ndef stored(node): ...\n@hook\ndef may_store(node): ...")
    configuration = tmp_path / "lfscp.toml"
    configuration.write_text(f'[plugins]\nfiles = ["{file}"]\n')
    done = run_lfscp("plugins", "--config", configuration)
    assert (done.returncode, done.stdout) == (0, f"mine\t{file}\tmay_store, stored\n")
    file.write_text("def (")
    done = run_lfscp("plugins", "--config", configuration)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"lfscp: plugins.files: {file}: line 1: invalid syntax\n"


def test_the_command_config_shows_no_value_of_a_plug_in(tmp_path: Path) -> None:
    configuration = tmp_path / "lfscp.toml"
    configuration.write_text('[plugins.settings.webhook]\nurl = "https://hidden.example.org"\n')
    done = run_lfscp("config", "--config", configuration)
    assert 'settings = { webhook = { url = "***" } }' in done.stdout
    assert "hidden" not in done.stdout


def test_one_that_takes_long_to_load_is_named_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "SLOW_S", 0.05)
    before = threading.active_count()
    file = plugin(tmp_path, "slow", "time.sleep(0.5)\n@hook\ndef startup(): pass")
    (loaded,) = load(settings_of(tmp_path, file).plugins)
    assert loaded.name == "slow"
    assert threading.active_count() == before
    said = capfd.readouterr().err
    assert "plug-in takes long to load" in said
    assert str(file) in said
