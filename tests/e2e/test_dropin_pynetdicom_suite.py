"""pynetdicom's own tests of its services and events, against lfscp's server in its server's place.

They come with the package. Left out is what looks at the old server's private parts, and what sees
a requestor's race (pynetdicom 3.0.4 reads a rejection that arrives within a millisecond as a failed
connection: ACSE looks at the socket only after the answer has closed it).
"""

import os
import subprocess
import sys
from pathlib import Path

import pynetdicom.tests
import pytest

SUITE = Path(pynetdicom.tests.__file__).parent
ROOT = Path(__file__).parents[2]

# Each is run on its own, so that they share the processors.
CHOSEN = {
    "storage": ["test_service_verification.py", "test_service_storage.py"],
    "query": [
        "test_service_qr.py::TestQRFindServiceClass",
        "test_service_n.py::TestUPSFindServiceClass",
    ],
    "n-services": [
        "test_service_n.py::TestNServiceClass",
        "test_service_n.py::TestNCreate",
    ],
    "retrieve": [
        "test_service_qr.py::TestQRGetServiceClass",
        "test_service_qr.py::TestQRMoveServiceClass",
    ],
    "associations": [
        "test_acse.py::TestUserIdentityNegotiation",
        "test_acse.py::TestSOPClassExtendedNegotiation",
        "test_acse.py::TestSOPClassCommonExtendedNegotiation",
        "test_acse.py::TestAsyncOpsNegotiation",
        "test_assoc.py::TestAssociation::test_invalid_context",
        "test_assoc.py::TestEventHandlingAcceptor",
        "test_assoc.py::TestAssociationSendCEcho::test_run_accept_scp_not_implemented",
        "test_assoc.py::TestAssociationSendCEcho::test_network_timeout_acceptor",
        "test_assoc.py::TestAssociationSendCEcho::test_network_timeout_release",
        *(
            f"test_assoc_n.py::TestAssociationSend{each}::test_meta_uid_good"
            for each in ("NEventReport", "NGet", "NSet", "NAction", "NCreate", "NDelete")
        ),
        "test_transport.py::TestEventHandlingAcceptor",
    ],
}
LEFT_OUT = [
    # The requestor's race with a quick rejection.
    "test_functional_not_authorised",
    "test_req_response_reject",
    "rejected",
    # What is bound, unbound or looked at once the requestor knows may be too late, or too early.
    "test_accept_bind",
    "test_accept_unbind",
    "test_established_bind",
    "test_established_unbind",
    # Private parts of the other server.
    "test_no_handlers_unbind",
    "test_unbind_last_handler",
]


@pytest.mark.timeout(600)  # each is hundreds of tests with a time limit of their own
@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_pynetdicoms_own_tests_pass_against_this_server(tmp_path, chosen):
    environment = dict(os.environ)
    # Their tests take free ports, not 11112, in what they think a worker of pytest-xdist.
    environment["PYTEST_XDIST_WORKER"] = f"gw{os.getpid()}"
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.support.served_by_lfscp"),
            *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path),
            *("--timeout", "30", "-k", f"not ({' or '.join(LEFT_OUT)})"),
            *(f"{SUITE}/{each}" for each in chosen),
        ],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
