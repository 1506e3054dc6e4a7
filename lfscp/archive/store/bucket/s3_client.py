"""The connection to an S3 object store: options, limits of time, and errors in plain words.

obstore does the talking. Its threads do not survive a fork, so a process that will fork must not
use it: a process makes its own client when it first needs one, and the check of rights at start
runs in a process of its own (object_probe.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lfscp.archive.errors import ArchiveError
from lfscp.observe import metrics

if TYPE_CHECKING:
    from obstore.store import S3Store

PART_BYTES: Final = 8 << 20  # of an object at a time, up and down; S3 takes no smaller than 5 MiB
PARTS_AT_ONCE: Final = 4
_RETRIES: Final = 2  # after answers 5xx and connections that break
_MISSING: Final = "install it with: pip install 'lfscp[s3]'"
_METADATA_SERVICE: Final = "169.254.169.254"
_NO_CREDENTIALS: Final = "no credentials for the object store"
_ANSWER: Final = re.compile(r"Server returned non-2xx status code: (\d{3})([^:\n]*)")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_HINTS: Final = {
    "NoSuchBucket": "make the bucket, or correct objects.url",
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "give these credentials the right to get, put, delete and list there",
}


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is. Credentials come from the AWS environment variables alone.

    Args:
        url: "s3://bucket/prefix".
        endpoint: URL of the service; empty is AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, then AWS's.
        region: empty is AWS_REGION, then AWS_DEFAULT_REGION, then us-east-1.
        allow_http: talk to an endpoint without TLS.
        timeout_s: for one request, of PART_BYTES at most.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    allow_http: bool = False
    timeout_s: float = 10.0

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """What every key begins with, without slashes at its ends."""
        return urlsplit(self.url).path.strip("/")


def connect(options: S3Options) -> S3Store:
    """A client; nothing is sent yet.

    Raises:
        ArchiveError: obstore is not installed, or the options fit no store.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise ArchiveError(
            "use objects.url", "obstore, which s3:// needs, is missing", _MISSING
        ) from None
    environment = os.environ
    endpoint = options.endpoint or environment.get("AWS_ENDPOINT_URL_S3") or None
    given: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    region = (
        options.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    )
    timeout = timedelta(seconds=options.timeout_s)
    try:
        return S3Store(
            options.bucket,
            prefix=options.prefix or None,
            region=region or "us-east-1",
            conditional_put="etag",
            client_options={
                "allow_http": options.allow_http,
                "timeout": timeout,
                "connect_timeout": min(timeout, timedelta(seconds=5)),
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timeout,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
            **given,
        )
    except (BaseError, ValueError) as error:
        raise ArchiveError("use objects.url", reason_of(error), "correct [objects]") from None


@contextmanager
def counted(request: str) -> Iterator[None]:
    """Count one request, its duration and whether it failed; that a name is taken or free is none.

    Args:
        request: one of `metrics.OBJECT_STORE_REQUESTS`.
    """
    from obstore.exceptions import AlreadyExistsError

    started = time.monotonic()
    try:
        yield
    except (FileNotFoundError, AlreadyExistsError):
        raise
    except Exception:
        metrics.OBJECT_STORE_FAILURES.of(request).add()
        raise
    finally:
        metrics.OBJECT_STORE_SECONDS.of(request).observe(time.monotonic() - started)


def reason_of(error: Exception) -> str:
    """Why a request failed, in a few words fit for a log line; no URL and no credentials.

    Args:
        error: what obstore raised. Its text is long; the answer's status and S3's code are in it.
    """
    text = str(error)
    if _METADATA_SERVICE in text:  # the last place where credentials are looked for
        return _NO_CREDENTIALS
    answer = _ANSWER.search(text)
    if answer is not None:
        code = code_of(error)
        status = f"{answer[1]}{answer[2]}".strip()
        return f"the object store answers {status}{f' ({code})' if code else ''}"
    if "operation timed out" in text or "timed out" in text or "TimedOut" in text:
        return "the object store does not answer in time"
    if "credential" in text.lower():
        return _NO_CREDENTIALS
    if "error sending request" in text or "error decoding response" in text or "HTTP error" in text:
        return "the object store cannot be reached"
    return " ".join(text.partition("\n")[0].split())[:200] or "the object store gives no reason"


def code_of(error: Exception) -> str:
    """S3's own code of an error (NoSuchBucket, AccessDenied …); empty when there is none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def hint_for(error: Exception) -> str:
    """What the administrator can do about it."""
    code = code_of(error)
    if code in _HINTS:
        return _HINTS[code]
    reason = reason_of(error)
    if reason == _NO_CREDENTIALS:
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "answers 403" in reason:
        return _HINTS["AccessDenied"]
    return "check objects.url, objects.endpoint and the object store"
