"""The Python example of the README runs as it stands, and keeps what it receives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from pydicom import dcmread

from tests.support.dcmtk import free_port
from tests.support.node_process import run_lfscp
from tests.support.sample_objects import sample

README = Path(__file__).parents[2] / "README.md"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_example_stores_files_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    (code,) = CODE.findall(README.read_text(encoding="utf-8"))
    port = free_port()
    elsewhere = code.replace('("", 11112)', f'("127.0.0.1", {port})')
    assert elsewhere != code
    (tmp_path / "example.py").write_text(elsewhere, encoding="utf-8")
    (tmp_path / "files").mkdir()
    (tmp_path / "received").mkdir()
    sent = sample("CT_small.dcm", tmp_path / "files")
    server = subprocess.Popen(
        [sys.executable, "../example.py"],
        cwd=tmp_path / "received",
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        while (done := run_lfscp("send", f"MYSCP@127.0.0.1:{port}", str(sent))).returncode:
            assert "Connection refused" in done.stderr  # it does not listen yet
            assert server.poll() is None, "the example ended"
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=30)
    finally:
        server.kill()
    assert (server.returncode, complaints) == (0, "")
    (kept,) = (tmp_path / "received").iterdir()
    before, after = dcmread(sent), dcmread(kept)
    assert kept.name == f"{before.SOPInstanceUID}.dcm"
    assert after == before
