"""The mended reactor of the tests' pynetdicom: see tests/support/pynetdicom_reactor.py."""

import time

from pynetdicom import AE

from tests.support.dicom_peer import VERIFICATION
from tests.support.pynetdicom_reactor import Checkpoint
from tests.support.serving import make_ae, serving


def test_a_client_gets_all_its_answers_though_its_reactor_goes_on_late(monkeypatch):
    on_time = Checkpoint.wait

    def wait(self, timeout=None):
        may = on_time(self, timeout)
        time.sleep(0.002)  # as on a busy machine; pynetdicom's own loses about one answer of ten
        return may

    monkeypatch.setattr(Checkpoint, "wait", wait)
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    ae.dimse_timeout = 10
    with serving(ae=make_ae()) as server:
        assoc = ae.associate(*server.server_address)
        statuses = [assoc.send_c_echo().get("Status") for _ in range(30)]
        assoc.release()
    assert statuses == [0x0000] * 30


def test_a_client_without_traffic_releases_by_itself():
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    ae.network_timeout = 0.2
    with serving(ae=make_ae()) as server:
        assoc = ae.associate(*server.server_address)
        assoc.network_timeout_response = "A-RELEASE"
        assoc.join(30)
        assert assoc.is_released
