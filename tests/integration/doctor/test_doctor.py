"""What `lfscp doctor` finds on a machine where something is wrong, and that it changes nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import INDEX_FILE
from lfscp.archive.data_folder import lock_folder
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.index.migrations import HEAD
from lfscp.config import Resolved, resolve_settings
from lfscp.doctor import clock, database, versions
from lfscp.doctor.examination import examine
from lfscp.doctor.finding import Finding, Verdict
from tests.support.dcmtk import free_port
from tests.support.serving import serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o750)
    return made


def resolved(folder: Path, toml: str = "") -> Resolved:
    file = folder.parent / "lfscp.toml"
    file.write_text(f"[server]\nhost = '127.0.0.1'\nport = {free_port()}\n{toml}")
    file.chmod(0o640)
    return resolve_settings(
        file, environment={"LFSCP_WEB__ENABLED": "false"}, flags={"data_dir": str(folder)}
    )


def found(looked_at: Resolved, subject: str, *, asks_peers: bool = False) -> list[Finding]:
    every = examine(looked_at, asks_peers=asks_peers)
    return [each for each in every if each.subject == subject]


def test_of_a_new_node_nothing_is_wrong_and_nothing_is_made(folder: Path) -> None:
    every = list(examine(resolved(folder)))
    assert [each for each in every if each.verdict is Verdict.WRONG] == []
    assert {each.subject for each in every} == {
        *("versions", "settings", "node", "rights", "disk", "database", "ports", "clock", "peers")
    }
    assert list(folder.iterdir()) == []
    for each in every:
        assert bool(each.advice) == (each.verdict is not Verdict.FINE)


def test_a_port_that_another_program_has_is_named(folder: Path) -> None:
    looked_at = resolved(folder)
    port = looked_at.settings.server.port
    with socket.create_server(("127.0.0.1", port)):
        (found_,) = found(looked_at, "ports")
    assert found_.verdict is Verdict.WRONG
    assert f"127.0.0.1:{port} is taken by another program" in found_.text
    assert f"sport = {port}" in found_.advice


def test_of_a_node_that_runs_its_ports_must_answer(folder: Path) -> None:
    looked_at = resolved(folder)
    lock = lock_folder(folder)
    try:
        (silent,) = found(looked_at, "ports")
        with socket.create_server(("127.0.0.1", looked_at.settings.server.port)):
            (answers,) = found(looked_at, "ports")
        (node,) = found(looked_at, "node")
    finally:
        os.close(lock)
    assert silent.verdict is Verdict.WRONG
    assert "a node runs, but nobody answers" in silent.text
    assert answers.verdict is Verdict.FINE
    assert "the node runs" in node.text


def test_a_disk_without_a_journal_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfscp.doctor.folders.lacks_journal", lambda at: at == str(folder))
    (told,) = found(resolved(folder), "disk")
    assert told.verdict is Verdict.WARNING
    assert "no journal" in told.text
    monkeypatch.setattr("lfscp.doctor.folders.lacks_journal", lambda _: False)
    (roomy,) = found(resolved(folder), "disk")
    assert roomy.verdict is Verdict.FINE


def test_a_disk_without_its_reserve_is_wrong(folder: Path) -> None:
    (full,) = found(resolved(folder, "[storage]\nreserve_mb = 1000000000"), "disk")
    assert full.verdict is Verdict.WRONG
    (roomy,) = found(resolved(folder, "[storage]\nreserve_mb = 0"), "disk")
    assert roomy.verdict is Verdict.FINE
    assert "GB are free" in roomy.text


def test_folders_and_files_that_everybody_may_read_are_named(folder: Path) -> None:
    folder.chmod(0o755)
    secret = folder.parent / "passcode"
    secret.write_text("p")
    secret.chmod(0o644)
    peer = f'[peers.A]\nhost = "h"\nport = 1\nuser = "u"\npassword_file = "{secret}"'
    looked_at = resolved(folder, peer)
    (folder.parent / "lfscp.toml").chmod(0o644)
    advices = [each.advice for each in found(looked_at, "rights") if each.advice]
    assert f"chmod o= {folder}" in advices
    assert f"chmod o-r {secret}" in advices
    assert f"chmod o-r {folder.parent / 'lfscp.toml'}" in advices


def test_a_file_that_a_setting_names_must_be_there(folder: Path) -> None:
    missing = '[peers.A]\nhost = "h"\nport = 1\nuser = "u"\npassword_file = "/nowhere"'
    wrong = [
        each
        for each in found(resolved(folder, missing), "settings")
        if each.verdict is Verdict.WRONG
    ]
    assert len(wrong) == 1
    assert "peers.A.password_file" in wrong[0].text


def index_of(folder: Path) -> Path:
    Index(sqlite_url(folder / INDEX_FILE)).close()
    return folder / INDEX_FILE


def test_the_index_is_read_and_its_schema_compared(folder: Path) -> None:
    index = index_of(folder)
    looked_at = resolved(folder)
    (whole,) = found(looked_at, "database")
    assert (whole.verdict, whole.text) == (Verdict.FINE, f"SQLite, schema {HEAD}")
    for schema, verdict in (("0001", Verdict.WARNING), ("9999", Verdict.WRONG)):
        _execute(index, f"UPDATE alembic_version SET version_num = '{schema}'")  # noqa: S608
        (other,) = found(looked_at, "database")
        assert other.verdict is verdict
        assert schema in other.text
        with sqlite3.connect(index) as connection:
            kept = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.close()
        assert kept == (schema,)  # it was not upgraded


def _execute(index: Path, statement: str) -> None:
    connection = sqlite3.connect(index)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_damaged_and_a_lost_index_are_wrong(folder: Path) -> None:
    index = index_of(folder)
    index.write_bytes(b"no database at all" * 1000)
    (damaged,) = found(resolved(folder), "database")
    assert damaged.verdict is Verdict.WRONG
    assert "lfscp check" in damaged.advice
    index.unlink()
    (folder / "objects/00/00").mkdir(parents=True)
    (folder / "objects/00/00/1.2.3.dcm").write_bytes(b"")
    (lost,) = found(resolved(folder), "database")
    assert lost.verdict is Verdict.WRONG
    assert "lfscp check --rebuild" in lost.advice


def test_postgresql_is_asked_and_one_that_is_away_is_wrong(
    folder: Path, postgresql_url: str
) -> None:
    Index(postgresql_url).close()
    (there,) = database.examine(_with_index(folder, postgresql_url)).findings
    assert there.verdict is Verdict.FINE
    assert there.text.startswith("PostgreSQL ")
    away = f"postgresql+psycopg://anna:s3cret@127.0.0.1:{free_port()}/lfscp"
    (wrong,) = database.examine(_with_index(folder, away)).findings
    assert wrong.verdict is Verdict.WRONG
    assert "s3cret" not in wrong.text + wrong.advice


def _with_index(folder: Path, url: str) -> Any:
    return resolved(folder, f'[index]\nurl = "{url}"').settings


def test_an_object_from_the_future_means_a_wrong_clock(folder: Path) -> None:
    wrong = [each for each in clock.examine(time.time() + 7200) if each.verdict is Verdict.WRONG]
    assert len(wrong) == 1
    assert "in the future" in wrong[0].text
    right = list(clock.examine(time.time() - 10))
    assert all(each.verdict is not Verdict.WRONG for each in right)


def test_what_these_settings_need_must_be_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "find_spec", lambda _name: None)
    settings = _with_index(folder, "postgresql+psycopg://h/d")
    (missing,) = [each for each in versions.examine(settings) if each.verdict is Verdict.WRONG]
    assert missing.advice == "pip install 'lfscp[postgres]'"


def test_each_peer_is_asked_and_advice_fits_what_it_does(folder: Path) -> None:
    with serving() as server:
        peers = "".join(
            f'[peers.{title}]\nhost = "127.0.0.1"\nport = {port}\n'
            for title, port in (("UP", server.server_address[1]), ("DOWN", free_port()))
        )
        up, down = found(resolved(folder, peers), "peers", asks_peers=True)
    assert up.verdict is Verdict.FINE
    assert up.text.startswith("UP: UP@127.0.0.1")
    assert down.verdict is Verdict.WARNING
    assert "Connection refused" in down.text
    assert "is it up" in down.advice


def as_another_user(act: Callable[[], object], uid: int = 54_321) -> str:
    """What something done by a user without a name gives, as text; in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = str(act())
        except BaseException as error:  # noqa: BLE001 - the parent says it
            said = f"raised {error!r}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


def _examined(looked_at: Resolved) -> list[Finding]:
    return list(examine(looked_at, asks_peers=False))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_of_another_user_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "locked", "data")
        folder.mkdir(parents=True, mode=0o700)
        Path(made).chmod(0o755)
        looked_at = resolved(tmp_path)
        for at in (folder, folder.parent):
            at.chmod(0o700)
            settings = looked_at.settings.model_copy(update={"data_dir": at})
            mine = replace(looked_at, settings=settings)
            said = as_another_user(partial(_examined, mine))
            assert "raised" not in said
            assert "Permission denied" in said
            assert "subject='clock'" in said
        assert "#54321 may not use it" in said


def test_an_index_is_only_looked_at(folder: Path) -> None:
    file = folder / INDEX_FILE
    file.touch()
    (fresh,) = found(resolved(folder), "database")
    assert (fresh.verdict, file.stat().st_size) == (Verdict.FINE, 0)
    file.unlink()
    Index(sqlite_url(file)).close()
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    (whole,) = found(resolved(folder), "database")
    assert whole.verdict is Verdict.FINE
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_what_is_no_folder_and_no_file_is_wrong(tmp_path: Path, folder: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert Verdict.WRONG in {each.verdict for each in found(resolved(loop), "rights")}
    (folder / INDEX_FILE).symlink_to(folder / INDEX_FILE)
    (looped,) = found(resolved(folder), "database")
    assert looped.verdict is Verdict.WRONG


def test_the_port_of_ohif_is_looked_at_if_it_was_chosen(folder: Path) -> None:
    port = free_port()
    text = f"[web]\nport = {free_port()}\n[ohif]\nport = {port}\n"
    looked_at = resolved(folder, text)
    web = looked_at.settings.web.model_copy(update={"enabled": True})
    settings = looked_at.settings.model_copy(update={"web": web})
    with socket.create_server(("127.0.0.1", port)):
        ports = found(replace(looked_at, settings=settings), "ports")
    taken = [each for each in ports if each.verdict is Verdict.WRONG]
    assert [each.text for each in taken] == [
        f"ohif.port (OHIF): 127.0.0.1:{port} is taken by another program"
    ]
