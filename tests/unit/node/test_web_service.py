"""The page's socket: bound when it can be, refused when it was asked for, left out otherwise."""

from __future__ import annotations

import socket

import pytest

from lfscp.config import Settings
from lfscp.node.errors import NodeError
from lfscp.node.web_service import bind_page


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken):
    settings = Settings.model_validate({"web": {"port": taken}})

    with pytest.raises(NodeError, match="Address already in use; choose another --http-port"):
        bind_page(settings)


def test_the_default_port_may_be_taken_and_then_there_is_no_page(taken):
    settings = Settings.model_validate({"web": {}})
    object.__setattr__(settings.web, "port", taken)  # as if it were the default

    assert bind_page(settings) is None


def test_a_page_that_is_off_binds_nothing(taken):
    assert bind_page(Settings.model_validate({"web": {"enabled": False, "port": taken}})) is None


def test_any_free_port_may_be_asked_for():
    listener = bind_page(Settings.model_validate({"web": {"port": 0}}))

    assert listener is not None
    with listener:
        assert listener.getsockname()[1] > 0
