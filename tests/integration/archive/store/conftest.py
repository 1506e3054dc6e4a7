"""An archive whose objects are in a bucket, behind a relay that can fail."""

from __future__ import annotations

from tests.support.bucket_requests import archive, bucket, open_archive, relay

__all__ = ["archive", "bucket", "open_archive", "relay"]
