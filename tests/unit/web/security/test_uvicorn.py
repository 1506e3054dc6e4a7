"""Drift guard: the parts of uvicorn's and httptools' that `connection` builds on are as they were.

When uvicorn changes one, the failing test names what to look at.
"""

from __future__ import annotations

import inspect

import httptools
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

WHAT_IS_USED = {
    "__init__": ("self.parser = httptools.HttpRequestParser(self)", "self.cycle: ", "self.loop = "),
    "connection_made": ("self.flow = FlowControl(transport)", "self.connections.add(self)"),
    "connection_lost": ("self.cycle.disconnected = True", "self.cycle.message_event.set()"),
    "data_received": ("self.parser.feed_data(data)", "self.send_400_response(msg)"),
    "send_400_response": ("msg.encode", "self.transport.close()"),
    "on_message_begin": ('self.url = b""', "self.headers = []", '"headers": self.headers'),
    "on_url": ("self.url += url",),
    "on_header": ("name = name.lower()", "self.headers.append((name, value))"),
    "on_headers_complete": (
        "parsed_url = httptools.parse_url(self.url)",
        "self.cycle = RequestResponseCycle(",
        "on_response=self.on_response_complete",
    ),
    "on_body": ("self.cycle.response_complete", "self.cycle.body += body"),
    "on_message_complete": ("self.cycle.more_body = False",),
    "on_response_complete": ("self.flow.resume_reading()",),
    "shutdown": ("self.transport.close()", "self.cycle.keep_alive = False"),
}


@pytest.mark.parametrize(("method", "lines"), WHAT_IS_USED.items(), ids=WHAT_IS_USED)
def test_a_method_of_the_protocol_does_what_it_did(method: str, lines: tuple[str, ...]) -> None:
    source = inspect.getsource(getattr(HttpToolsProtocol, method))
    assert [line for line in lines if line not in source] == []


def test_no_other_method_takes_a_part_in_reading() -> None:
    """One that is new may pass the limits by."""
    own = {name for name in vars(HttpToolsProtocol) if name.startswith(("on_", "data_", "eof_"))}
    assert own == {
        *("data_received", "eof_received", "on_message_begin", "on_url", "on_header"),
        *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
    }


def test_an_answer_is_told_when_it_is_complete() -> None:
    source = inspect.getsource(RequestResponseCycle.send)
    assert "self.response_complete = True" in source
    assert "self.on_response()" in source
    assert "self.response_started = True" in source


def test_a_body_is_counted_as_the_sending_of_files_counts_it() -> None:
    source = inspect.getsource(RequestResponseCycle.send)
    assert "self.expected_content_length -= num_bytes" in source
    assert "if self.chunked_encoding:" in source
    assert r'[b"%x\r\n" % len(body), body, b"\r\n"]' in source
    assert "await self.flow.drain()" in source


def test_a_body_is_kept_for_the_request_as_the_receiving_in_a_thread_expects() -> None:
    made = inspect.getsource(RequestResponseCycle.__init__)
    assert "self.body = bytearray()" in made
    assert "self.message_event = message_event" in made
    assert "self.waiting_for_100_continue = " in made
    received = inspect.getsource(RequestResponseCycle.receive)
    assert r'self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")' in received
    assert "self.flow.resume_reading()" in received
    lenient = "self.parser.set_dangerous_leniencies(lenient_data_after_close=True)"
    assert lenient in inspect.getsource(HttpToolsProtocol.__init__)


class Callbacks:
    """Raises in the middle of a head."""

    def on_headers_complete(self) -> None:
        raise ValueError


def test_what_a_callback_raises_refuses_the_request() -> None:
    parser = httptools.HttpRequestParser(Callbacks())
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
