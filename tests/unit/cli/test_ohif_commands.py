"""lfscp ohif: installed, shown, removed; what is said about where it is served."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lfscp.archive.data_folder import lock_folder
from lfscp.cli.errors import OptionError
from lfscp.config import Settings
from lfscp.errors import OperationError
from lfscp.web.ohif import installing
from lfscp.web.ohif.installation import read_installation
from tests.support.ohif_package import small_package

Run = Callable[..., int]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that is the one that lfscp knows."""
    file, package = small_package(tmp_path)
    monkeypatch.setattr(installing.install, "__defaults__", (None, package))
    return file


def settings(tmp_path: Path, **sections: object) -> Settings:
    return Settings.model_validate({"data_dir": str(tmp_path / "data"), **sections})


def test_it_is_installed_from_a_file_shown_and_removed(tmp_path, run: Run, package, capsys):
    home, node = tmp_path / "data/ohif", settings(tmp_path)

    run(node, "ohif", "install", "--from", package)
    first = capsys.readouterr().out
    run(node, "ohif", "install", "--from", package)
    again = capsys.readouterr().out
    run(node, "ohif")
    alone = capsys.readouterr().out
    run(node, "ohif", "show")
    assert capsys.readouterr().out == alone
    run(node, "ohif", "remove")
    run(node, "ohif", "remove")
    removed = capsys.readouterr().out
    run(node, "ohif")

    assert f"OHIF 1.2.3 (0 MB) is installed in {home}" in first
    where = "the node serves it at http://127.0.0.1:8081/"
    assert f"{where}; restart the node if it is running\n" in first
    assert again.endswith(f"{where}\n")
    assert f"in {home}\n" in alone
    assert alone.endswith(f"{where}\n")
    assert removed == f"OHIF is removed from {home}\nOHIF is not installed\n"
    assert "is not installed in" in capsys.readouterr().out


def test_a_data_folder_that_no_node_has_used_is_perhaps_the_wrong_one(
    tmp_path, run, package, capsys
):
    node = settings(tmp_path)
    hint = "no node has used this data folder; if yours has another one, name it by --data-dir\n"

    run(node, "ohif", "install", "--from", package)
    assert hint in capsys.readouterr().out
    os.close(lock_folder(node.data_dir))  # as a node does
    run(node, "ohif", "install", "--from", package)
    run(node, "ohif", "show")
    assert hint not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"ohif": {"port": 9000}}, "the node serves it at http://127.0.0.1:9000/\n"),
        ({"ohif": {"port": 0}}, "at any free port"),
        ({"ohif": {"public_url": "https://v.example.org"}}, "at https://v.example.org/"),
        ({"ohif": {"enabled": False}}, "not served, since ohif.enabled is false"),
        ({"web": {"enabled": False}}, "not served, since web.enabled is false"),
    ],
)
def test_where_it_is_served_is_said(tmp_path, run: Run, package, capsys, sections, words):
    run(settings(tmp_path, **sections), "ohif", "install", "--from", package)

    assert words in capsys.readouterr().out


def test_npm_fetches_it_if_no_file_is_given(tmp_path, run: Run, package, capsys, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp {package} "$4"/ohif.tgz\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert shutil.which("npm") == str(npm)

    run(settings(tmp_path), "ohif", "install")

    assert "npm downloads @ohif/app@" in capsys.readouterr().out
    assert (tmp_path / "asked").read_text().startswith("pack @ohif/app@1.2.3 --pack-destination ")
    assert read_installation(tmp_path / "data") is not None


def test_another_file_is_refused(tmp_path, run: Run, package):
    package.write_bytes(b"another")

    with pytest.raises(OperationError, match="is not @ohif/app@"):
        run(settings(tmp_path), "ohif", "install", "--from", package)


def test_an_option_before_the_command_is_not_ignored(tmp_path, run: Run, package):
    wrong = ("ohif", "--data-dir", tmp_path / "other", "install", "--from", package)

    with pytest.raises(OptionError, match="flag --data-dir: put it behind the command"):
        run(settings(tmp_path), *wrong)
    assert not (tmp_path / "other").exists()
