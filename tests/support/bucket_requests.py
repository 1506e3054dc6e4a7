"""An archive whose objects are in a bucket, behind a relay that knows what was asked, and fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.store.bucket.s3_client import S3Options
from tests.support.s3_service import Relay, S3Service

Open = Callable[..., Archive]


@pytest.fixture
def relay(s3_service: S3Service, s3_credentials: None) -> Iterator[Relay]:
    with Relay(s3_service) as relay:
        yield relay


@pytest.fixture
def bucket(s3_service: S3Service) -> str:
    return s3_service.new_bucket()


def options_of(relay: Relay, bucket: str, timeout_s: float) -> S3Options:
    return S3Options(f"s3://{bucket}", relay.url, allow_http=True, timeout_s=timeout_s)


@pytest.fixture
def open_archive(relay: Relay, bucket: str, tmp_path: Path) -> Iterator[Open]:
    opened = []

    def open_one(name: str = "a", index: str = "a", timeout_s: float = 1.0) -> Archive:
        (tmp_path / index).mkdir(exist_ok=True)
        url = f"sqlite:///{tmp_path / index / 'index.sqlite'}"
        archive = Archive.open(
            tmp_path / name,
            index_url=url,
            bucket=options_of(relay, bucket, timeout_s),
            cache_mb=100,
        )
        opened.append(archive)
        return archive

    yield open_one
    for archive in opened:
        archive.close()


@pytest.fixture
def archive(open_archive: Open) -> Archive:
    return open_archive()


def forget_copies(archive: Archive) -> None:
    for path in archive.files.root.glob("copies/*/*"):
        path.unlink()


def gets(relay: Relay) -> list[tuple[str, str]]:
    """Path and range of the requests that fetched objects."""
    return [(path, part) for method, path, part in relay.requests if method == "GET" and part]
