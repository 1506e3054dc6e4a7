"""The reactor of a pynetdicom association is held for as long as a test says, and no longer."""

from collections.abc import Iterator

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO

from tests.support.dicom_peer import until
from tests.support.pynetdicom_client import association
from tests.support.pynetdicom_reactor import paused, well_paused

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def asking() -> Iterator[Association]:
    ae = AE()
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        port = server.server_address[1]
        with association(port, [(VERIFICATION, "1.2.840.10008.1.2")]) as assoc:
            yield well_paused(assoc)
    finally:
        server.shutdown()


def is_left(assoc: Association) -> bool:
    """Whether a message that comes now is left to the test."""
    came = (1, C_ECHO())
    assoc.dimse.msg_queue.put(came)
    return assoc.dimse.msg_queue.get(timeout=10) is came


def test_what_comes_is_left_also_when_it_is_held_again_at_once(asking: Association) -> None:
    for _ in range(300):
        with paused(asking):
            assert is_left(asking)


def test_a_report_that_is_answered_meanwhile_does_not_say_whether_it_is_held(
    asking: Association,
) -> None:
    with paused(asking):
        asking._is_paused = False  # as the thread does that has served an N-EVENT-REPORT
        assert asking._is_paused
    asking._is_paused = True  # as this thread does when it begins
    assert not asking._is_paused
    assert asking.send_c_echo().Status == 0x0000


def test_it_goes_on_afterwards(asking: Association) -> None:
    with paused(asking):
        pass
    asking.dimse.msg_queue.put((1, C_ECHO()))
    assert until(asking.dimse.msg_queue.empty)


def test_nobody_waits_for_one_that_has_ended(asking: Association) -> None:
    asking.abort()
    with paused(asking):
        pass
