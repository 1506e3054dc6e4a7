"""The page's socket: bound when it can be, refused when it was asked for, left out otherwise."""

from __future__ import annotations

import gc
import http.client
import socket

import pytest

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.node.errors import NodeError
from lfscp.node.web_service import WebService, bind_ohif, bind_page
from lfscp.web.ohif.installing import install
from tests.support.ohif_package import small_package
from tests.support.web_app import state


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


def test_without_an_installation_nobody_listens_for_ohif_at_the_default_port(tmp_path):
    assert bind_ohif(Settings.model_validate({"data_dir": str(tmp_path)})) is None


def test_a_port_for_ohif_that_was_asked_for_is_open_before_the_installation(tmp_path):
    listener = bind_ohif(Settings.model_validate({"data_dir": str(tmp_path), "ohif": {"port": 0}}))

    assert listener is not None
    with listener:
        assert listener.getsockname()[1] > 0


def test_the_default_port_of_ohif_may_be_taken_and_one_that_was_asked_for_must_be_free(
    tmp_path, taken
):
    install(tmp_path / "data", *small_package(tmp_path))
    default = Settings.model_validate({"data_dir": str(tmp_path / "data")})
    section = default.ohif.model_copy()  # all settings share the default one
    object.__setattr__(section, "port", taken)  # as if it were the default
    object.__setattr__(default, "ohif", section)
    asked = Settings.model_validate({"data_dir": str(tmp_path), "ohif": {"port": taken}})

    assert bind_ohif(default) is None
    with pytest.raises(NodeError, match=r"cannot serve OHIF on .*choose another ohif\.port"):
        bind_ohif(asked)


def test_ohif_that_is_off_binds_nothing(tmp_path, taken):
    sections = {"data_dir": str(tmp_path), "ohif": {"enabled": False, "port": taken}}

    assert bind_ohif(Settings.model_validate(sections)) is None


def test_ohif_and_the_page_have_a_port_each():
    with pytest.raises(ValueError, match=r"set another port than 8080, which is web\.port"):
        Settings.model_validate({"ohif": {"port": 8080}})
    Settings.model_validate({"web": {"enabled": False}, "ohif": {"port": 8080}})
    Settings.model_validate({"web": {"port": 0}, "ohif": {"port": 0}})


def test_the_collector_does_not_look_through_the_page_again(tmp_path):
    settings = Settings.model_validate({"data_dir": str(tmp_path), "web": {"port": 0}})
    listener = bind_page(settings)
    with Archive.open(tmp_path, durability="os") as archive:
        service = WebService(settings, archive, listener, state)
        service.start()
        try:
            visitor = http.client.HTTPConnection(*listener.getsockname()[:2], timeout=60)
            visitor.request("GET", "/")
            assert visitor.getresponse().status == 200
            visitor.close()
            looked_at = {id(each) for each in gc.get_objects()}
            assert id(service._app) not in looked_at
            assert id(service._app.routes) not in looked_at
        finally:
            service.stop()
