"""Documents go out as gzip; of pictures and objects the head goes out at once, and as it is."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from lfscp.web.dicomweb.compression import Compression


@pytest.mark.parametrize("accepted", [b"gzip", b"identity"])
@pytest.mark.parametrize("media_type", [b"image/png", b"application/octet-stream"])
def test_the_head_is_sent_before_bytes_that_go_past_it(accepted: bytes, media_type: bytes) -> None:
    sent: list[str] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", media_type), (b"content-length", b"5000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent.append("bytes of a file")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def note(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = [(b"accept-encoding", accepted)]
    scope = {"type": "http", "method": "GET", "path": "/dicom-web/studies", "headers": headers}
    asyncio.run(Compression(application, ("/dicom-web",))(scope, receive, note))

    assert sent == ["http.response.start", "bytes of a file", "http.response.body"]
