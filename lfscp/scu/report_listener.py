"""Takes the reports of a peer on associations that it opens, for a command that has no node.

It listens for as long as it is needed, and answers C-ECHO besides, by which administrators try
whether the peer knows the way here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pynetdicom import AE, build_context, evt

from lfscp.scu.commit import MAX_REPORT_BYTES
from lfscp.server import LeaderFollowerServer
from lfscp.services.commitment.n_event_report import Keep, take_report
from lfscp.services.contexts import STORAGE_COMMITMENT, UNCOMPRESSED, VERIFICATION
from lfscp.upperlayer.connection.limits import ReceiveLimits

_DRAIN_S: Final = 2.0


@contextmanager
def listening(ae_title: str, address: tuple[str, int], keep: Keep) -> Iterator[int]:
    """Listen for reports to an AE title; gives the port.

    Args:
        address: host and port; "" is every IPv4 address, port 0 lets the system choose.
    Raises:
        OSError: the address cannot be used.
    """

    def handle_report(event: evt.Event) -> tuple[Any, None]:
        return take_report(event, keep), None

    commitment = build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))
    commitment.scu_role = commitment.scp_role = True  # the peer is the SCP, and may say so
    server = LeaderFollowerServer(
        AE(ae_title),
        address,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, handle_report)],
        contexts=[commitment, build_context(VERIFICATION, list(UNCOMPRESSED))],
        receive_limits=ReceiveLimits(max_message_bytes=MAX_REPORT_BYTES),
    )
    server.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.drain(_DRAIN_S)
