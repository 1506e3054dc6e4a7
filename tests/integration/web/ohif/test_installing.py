"""OHIF is installed as a whole or not at all, from the package that is known and no other."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lfscp.errors import OperationError
from lfscp.web.ohif import installing
from lfscp.web.ohif.installation import FOLDER, Installed, read_installation
from lfscp.web.ohif.installing import inline_script_hashes, install, remove
from tests.support.ohif_package import FILES, INLINE, START_PAGE, WORKER, packed, small_package


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def installed_files(data_dir: Path) -> set[str]:
    """The files that are there, but for record and lock."""
    home = data_dir / FOLDER
    found = (path.relative_to(home) for path in home.rglob("*") if path.is_file())
    return {str(Path(*each.parts[1:])) for each in found if len(each.parts) > 1}


def test_what_the_viewer_needs_is_there_with_copies_that_are_zipped(tmp_path, data_dir):
    made = install(data_dir, *small_package(tmp_path))

    bundle = "app.bundle.0123456789abcdef.js"
    needed = {*FILES, "LICENSE"} - {"ort/large.wasm", "app-config.js"}
    assert set(made.files) == needed
    assert installed_files(data_dir) == needed | {f"{bundle}.gz"}
    folder = data_dir / FOLDER / made.folder
    assert (folder / bundle).read_text() == FILES[bundle]
    assert gzip.decompress((folder / f"{bundle}.gz").read_bytes()).decode() == FILES[bundle]
    assert made.files[bundle].size == len(FILES[bundle])
    assert made.files[bundle].zipped == (folder / f"{bundle}.gz").stat().st_size
    assert made.evaluating == (WORKER,)
    assert read_installation(data_dir) == made


def test_inline_scripts_are_known_by_the_digest_of_exactly_their_text():
    digest = base64.b64encode(hashlib.sha256(INLINE.encode()).digest()).decode()

    assert inline_script_hashes(START_PAGE) == (f"'sha256-{digest}'",)


def test_whoever_runs_the_node_can_read_what_another_user_installed(tmp_path, data_dir):
    before = os.umask(0o077)
    try:
        made = install(data_dir, *small_package(tmp_path))
    finally:
        os.umask(before)

    home = data_dir / FOLDER
    folders = [home, *(each for each in home.rglob("*") if each.is_dir())]
    files = [home / "installed.json", *(home / made.folder).rglob("*.*")]
    assert {each.stat().st_mode & 0o777 for each in folders} == {0o755}
    assert {each.stat().st_mode & 0o777 for each in files if each.is_file()} == {0o644}


def test_another_installation_takes_the_place_of_the_first(tmp_path, data_dir):
    installed = Installed(data_dir)
    assert installed.now() is None
    first = install(data_dir, *small_package(tmp_path))
    assert installed.now() == first
    second = install(data_dir, *small_package(tmp_path / "b", {"index.html": "<html></html>"}))

    assert installed.now() == second
    assert installed_files(data_dir) == {"index.html", "LICENSE"}
    assert [each.name for each in (data_dir / FOLDER).glob("files-*")] == [second.folder]


def test_what_is_removed_is_gone_and_nothing_can_be_removed_twice(tmp_path, data_dir):
    installed = Installed(data_dir)
    install(data_dir, *small_package(tmp_path))
    assert installed.now() is not None

    assert remove(data_dir)
    assert installed.now() is None
    assert installed_files(data_dir) == set()
    assert not remove(data_dir)
    assert not remove(tmp_path / "never")


def test_a_file_with_another_digest_is_refused_before_it_is_opened(tmp_path, data_dir):
    first = install(data_dir, *small_package(tmp_path))
    file, package = small_package(tmp_path / "b")
    file.write_bytes(b"no package at all")

    with pytest.raises(OperationError) as refused:
        install(data_dir, file, package)
    assert "is not @ohif/app@1.2.3: its digest is sha512-" in str(refused.value)
    assert f"expected {package.integrity}" in str(refused.value)
    assert read_installation(data_dir) == first


def test_a_file_that_is_not_there_is_named(tmp_path, data_dir):
    _, package = small_package(tmp_path)

    with pytest.raises(OperationError, match=r"absent\.tgz: No such file"):
        install(data_dir, tmp_path / "absent.tgz", package)


def member(name: str, content: bytes = b"x", **values: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


INDEX = member("package/dist/index.html")
UNSAFE = {
    "leads out": [INDEX, member("package/dist/../../../escaped")],
    "from the root": [INDEX, member("/tmp/escaped")],  # noqa: S108
    "a link": [INDEX, member("package/dist/link", b"", type=tarfile.SYMTYPE, linkname="/etc")],
    "a hard link": [INDEX, member("package/dist/l", b"", type=tarfile.LNKTYPE, linkname="/etc/x")],
    "a device": [INDEX, member("package/dist/null", b"", type=tarfile.CHRTYPE)],
    "too many": [INDEX, *(member(f"package/dist/{number}") for number in range(30))],
    "too large": [INDEX, member("package/dist/zeros", bytes(1 << 20))],  # a kilobyte as gzip
    "too large where it is left out": [INDEX, member("package/dist/ort/zeros", bytes(1 << 20))],
}


@pytest.mark.parametrize("members", UNSAFE.values(), ids=UNSAFE)
def test_a_package_that_is_not_safe_is_refused_and_leaves_nothing(tmp_path, data_dir, members):
    with pytest.raises(OperationError, match="the package is not safe to unpack"):
        install(data_dir, *packed(tmp_path, members))

    assert installed_files(data_dir) == set()
    assert read_installation(data_dir) is None
    assert {each.name for each in tmp_path.iterdir()} == {"data", "package.tgz"}


@pytest.mark.parametrize(
    "members",
    [[member("package/dist/app.js")], [INDEX, INDEX], [member("package/index.html")]],
    ids=["no start page", "a file twice", "no folder dist"],
)
def test_what_is_no_viewer_is_refused(tmp_path, data_dir, members):
    with pytest.raises(OperationError):
        install(data_dir, *packed(tmp_path, members))
    assert installed_files(data_dir) == set()


def test_a_package_that_is_cut_off_is_refused(tmp_path, data_dir):
    file, package = small_package(tmp_path)
    half = file.read_bytes()[:200]
    file.write_bytes(half)
    digest = base64.b64encode(hashlib.sha512(half).digest()).decode()

    with pytest.raises(OperationError, match="is damaged"):
        install(data_dir, file, replace(package, integrity=f"sha512-{digest}"))
    assert installed_files(data_dir) == set()


def test_an_installation_that_is_broken_off_leaves_the_one_before(tmp_path, data_dir, monkeypatch):
    first = install(data_dir, *small_package(tmp_path))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(installing, "_replace_record", stop)
        with pytest.raises(KeyboardInterrupt):
            install(data_dir, *small_package(tmp_path))
    (data_dir / FOLDER / "files-of-a-process-that-was-killed").mkdir()

    assert read_installation(data_dir) == first
    assert "index.html" in installed_files(data_dir)
    second = install(data_dir, *small_package(tmp_path))
    folders = [each.name for each in (data_dir / FOLDER).iterdir() if each.is_dir()]
    assert folders == [second.folder]


def test_without_npm_the_next_step_is_named(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(OperationError, match="npm is not installed; install it, or run `npm pack"):
        install(data_dir)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1", "404 Not"),
        ("exit 0", "it gave no reason"),
    ],
)
def test_npm_s_own_reason_is_told_when_it_fails(tmp_path, data_dir, monkeypatch, script, reason):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(OperationError, match=f"npm failed: .*{reason}"):
        install(data_dir)
    assert installed_files(data_dir) == set()


def test_a_record_that_cannot_be_read_is_no_installation(tmp_path, data_dir):
    install(data_dir, *small_package(tmp_path))
    (data_dir / FOLDER / "installed.json").write_text('{"version": 1}')

    assert read_installation(data_dir) is None
    assert Installed(data_dir).now() is None
