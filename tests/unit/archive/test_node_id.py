"""The node's name in its data folder: made once, and never half."""

from __future__ import annotations

import os

import pytest

from lfscp.archive.node_id import NODE_FILE, node_id


def test_the_name_is_made_once(tmp_path):
    name = node_id(tmp_path)
    assert len(name) == 32
    assert node_id(tmp_path) == name


def test_what_a_power_cut_left_empty_is_made_anew(tmp_path):
    (tmp_path / NODE_FILE).touch()
    name = node_id(tmp_path)
    assert len(name) == 32
    assert node_id(tmp_path) == name


def test_a_name_that_could_not_be_made_whole_is_none(tmp_path, monkeypatch):
    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            node_id(tmp_path)
    assert not (tmp_path / NODE_FILE).exists()
    assert len(node_id(tmp_path)) == 32
