"""Receiving a huge object costs no memory: the server, in a process of its own, spools it."""

import os
import subprocess
import sys
from pathlib import Path

from pynetdicom import evt

from tests.support.dicom_peer import COMMAND, DATA, LAST, Peer, p_data, pdv, store_rq
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]
SIZE = int(os.environ.get("LFSCP_TEST_LARGE_OBJECT_MB", "300")) << 20
ALLOWED_GROWTH = 64 << 20


def high_water_mark(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def test_a_huge_object_is_received_in_bounded_memory(tmp_path):
    with subprocess.Popen(
        [sys.executable, __file__, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        port = int(server.stdout.readline())
        with Peer(("127.0.0.1", port), timeout=60) as peer:
            peer.associate()
            assert peer.echo() == 0
            before = high_water_mark(server.pid)
            peer.send(p_data(pdv(3, COMMAND | LAST, store_rq())))
            piece = p_data(pdv(3, DATA, bytes(65000)))
            for _ in range(SIZE // 65000):
                peer.send(piece)
            peer.send(p_data(pdv(3, DATA | LAST, bytes(1000))))
            assert peer.status() == 0
            growth = high_water_mark(server.pid) - before
            peer.release()
        received = int(server.stdout.readline())
        server.communicate("end\n")
    assert received == SIZE // 65000 * 65000 + 1000
    assert growth < ALLOWED_GROWTH, f"{growth >> 20} MB more than idle"
    assert list(tmp_path.iterdir()) == []


def _serve(spool):
    def handle(event):
        print(event.request.size, flush=True)  # noqa: T201 - what the test reads
        return 0x0000

    with serving((evt.EVT_C_STORE, handle), spool_dir=spool) as server:
        print(server.server_address[1], flush=True)  # noqa: T201 - the same
        sys.stdin.readline()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
