"""A node in this process: what settings make of it, and that it does not outlive its pool."""

import pytest

from lfscp.config import Settings
from lfscp.node.dicom_server import application_entity
from lfscp.node.errors import NodeError
from lfscp.node.single_process import SingleProcess


def settings(tmp_path, **server):
    given = {"host": "127.0.0.1", "port": 0, **server}
    return Settings.model_validate({"data_dir": str(tmp_path / "data"), "server": given})


def test_the_application_entity_is_the_configured_one(tmp_path):
    server = {
        "ae_title": "NODE",
        "acse_timeout_s": 1,
        "dimse_timeout_s": 2,
        "network_timeout_s": 3,
        "max_pdu_bytes": 16384,
        "max_associations": 4,
        "require_called_ae_title": True,
    }

    ae = application_entity(settings(tmp_path, **server))

    assert ae.ae_title == "NODE"
    assert (ae.acse_timeout, ae.dimse_timeout, ae.network_timeout) == (1, 2, 3)
    assert (ae.maximum_pdu_size, ae.maximum_associations) == (16384, 4)
    assert ae.require_called_aet


def test_a_node_starts_and_stops_without_signals(tmp_path):
    node = SingleProcess(settings(tmp_path))
    node.start()

    assert node.address[0] == "127.0.0.1"
    assert node.address[1] > 0
    node.stop()
    again = SingleProcess(settings(tmp_path))  # the archive is free again
    again.start()
    again.stop()


def test_a_node_that_cannot_listen_leaves_the_archive_free(tmp_path):
    first = SingleProcess(settings(tmp_path))
    first.start()
    other = tmp_path / "other"
    taken = settings(other, port=first.address[1])
    with pytest.raises(NodeError, match="Address already in use; choose another port"):
        SingleProcess(taken).start()
    first.stop()

    free = SingleProcess(settings(other))
    free.start()
    free.stop()


def test_a_node_whose_pool_ends_by_itself_ends_with_1(tmp_path):
    class Broken(SingleProcess):
        def start(self):
            super().start()
            self.worker.server.pool.shutdown()

    assert Broken(settings(tmp_path)).run() == 1
