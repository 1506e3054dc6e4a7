"""A server of the test's own, in this process, and its orderly end."""

from contextlib import contextmanager

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE

from lfscp import LeaderFollowerServer
from tests.support.dicom_peer import CT, STUDY_ROOT_FIND, VERIFICATION


def make_ae(**attributes):
    """An AE with the contexts of the tests and patient time limits; attributes replace its own."""
    ae = AE(ae_title="ANY-SCP")
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(CT, AllTransferSyntaxes, scu_role=True, scp_role=True)
    ae.add_supported_context(STUDY_ROOT_FIND)
    ae.maximum_associations = 1000
    ae.maximum_pdu_size = 131072
    for name, value in attributes.items():
        setattr(ae, name, value)
    return ae


@contextmanager
def serving(*handlers, ae=None, **options):
    """A running server; at the end it must drain."""
    server = LeaderFollowerServer(
        ae or make_ae(), ("127.0.0.1", 0), evt_handlers=list(handlers), **options
    )
    server.start()
    try:
        yield server
    finally:
        server.shutdown()
        for association in server.active_associations:
            association.abort(block=False)
        assert server.drain(10), "an association does not end"
