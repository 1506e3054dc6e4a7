"""A real S3 service over HTTP on loopback for the tests, and a relay before it that can misbehave.

The service is moto's, in a process of its own; it keeps objects in memory and checks no signatures.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_STOP_S = 10.0


class S3Service:
    """One service; every `new_bucket` is empty and for one test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        try:
            assert self._process.stdout is not None
            self.port = int(self._process.stdout.readline())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=_STOP_S)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self) -> str:
        """Make a bucket; its name."""
        name = f"bucket-{uuid.uuid4().hex}"
        self._ask("PUT", f"/{name}")
        return name

    def keys(self, bucket: str) -> list[str]:
        """All keys of a bucket, also beside any prefix, but the archive's own, `.lfscp/`."""
        document = ElementTree.fromstring(  # noqa: S314 - our own service
            self._ask("GET", f"/{bucket}?list-type=2")
        )
        keys = [each.text or "" for each in document.iter() if each.tag.endswith("}Key")]
        return sorted(key for key in keys if ".lfscp/" not in f"/{key}")

    def get(self, bucket: str, key: str) -> bytes:
        """An object's bytes."""
        return self._ask("GET", f"/{bucket}/{urllib.parse.quote(key)}")

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object behind the node's back."""
        self._ask("PUT", f"/{bucket}/{urllib.parse.quote(key)}", content)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object behind the node's back."""
        self._ask("DELETE", f"/{bucket}/{urllib.parse.quote(key)}")

    def _ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status < 300, (answer.status, body)
            return body
        finally:
            connection.close()


class Relay:
    """Passes requests on to a service, and can refuse, drop or forget them.

    Attributes:
        status: answered instead of passing a request on, with an S3 error document; 0 passes it.
        code: of that document.
        only: the methods that this holds for.
        passes: how many more requests are passed on before that.
        holds: let requests wait without an answer.
        forgets: headers of requests that are not passed on.
        requests: (method, path, Range header) of all that came.
    """

    def __init__(self, service: S3Service) -> None:
        self.status = 0
        self.code = ""
        self.only: tuple[str, ...] = ()
        self.passes = 0
        self.holds = False
        self.forgets: tuple[str, ...] = ()
        self.requests: list[tuple[str, str, str]] = []
        self._released = threading.Event()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def pass_on(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(size)
                relay.requests.append((self.command, self.path, self.headers.get("Range", "")))
                is_hit = relay.hits(self.command)
                if relay.holds and is_hit:
                    relay._released.wait(60)
                    self.close_connection = True
                    return
                if relay.status and is_hit:
                    self.answer(relay.status, relay.document(), {"Content-Type": "application/xml"})
                    return
                kept = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in (*relay.forgets, "connection", "host")
                }
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
                try:
                    connection.request(self.command, self.path, content or None, kept)
                    answer = connection.getresponse()
                    self.answer(answer.status, answer.read(), dict(answer.getheaders()))
                finally:
                    connection.close()

            def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", headers.get("content-length"))
                if self.command != "HEAD" or length is None:
                    length = str(len(content))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that gave up waiting

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def document(self) -> bytes:
        """An S3 error document."""
        return f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()

    def hits(self, method: str) -> bool:
        """Whether a request of this method is not to be passed on."""
        if self.only and method not in self.only:
            return False
        self.passes -= 1
        return self.passes < 0

    def fail(self, status: int, code: str, *only: str, passes: int = 0) -> None:
        """Answer these methods, or all, with an error after so many more."""
        self.status, self.code, self.only, self.passes = status, code, only, passes

    def heal(self) -> None:
        """Pass everything on again."""
        self.status, self.only, self.holds = 0, (), False

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
