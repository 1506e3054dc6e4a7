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
HERE = Path(__file__).parent
ROOT = HERE.parents[1]

RACE_OF_THE_REQUESTOR = (
    "not test_functional_not_authorised and not test_req_response_reject "
    "and not test_requested_handler_reject and not rejected"
)


@pytest.mark.parametrize(
    ("module", "chosen"),
    [
        ("test_service_verification.py", ""),
        ("test_service_storage.py", ""),
        ("test_service_qr.py", "Find or Get or Move"),
        ("test_service_n.py", "UPS or Functional or test_scp"),
        ("test_acse.py", f"Negotiation and {RACE_OF_THE_REQUESTOR}"),
        (
            "test_assoc.py",
            # ..._bind: what is bound once the requestor is told may be too late, or not.
            f"EventHandlingAcceptor and {RACE_OF_THE_REQUESTOR} and not test_no_handlers_unbind "
            "and not test_accept_bind and not test_established_bind",
        ),
        (
            "test_transport.py",
            "(EventHandlingAcceptor or TLS) and not test_unbind_last_handler and not test_no_ssl "
            "and not test_tls_yes_server_not_client",
        ),
    ],
)
def test_pynetdicoms_own_tests_pass_against_this_server(module, chosen, tmp_path):
    environment = dict(os.environ)
    # Their tests take free ports, not 11112, in what they think a worker of pytest-xdist.
    environment["PYTEST_XDIST_WORKER"] = f"gw{os.getpid()}"
    environment["PYTHONPATH"] = os.pathsep.join((str(HERE), str(ROOT)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "served_by_lfscp"),
            *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path),
            *("--timeout", "30", "-k", chosen, SUITE / module),
        ],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
