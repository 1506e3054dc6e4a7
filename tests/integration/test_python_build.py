"""Free-threaded builds of Python are refused in one line, by the command line and by a server."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from lfscp import LeaderFollowerServer
from lfscp.python_build import PythonBuildError

FREE_THREADED = """
import sys, sysconfig
usual = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else usual(name)
from lfscp.cli import main
sys.argv = ["lfscp", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("--version",)])
def test_the_command_line_says_so_in_one_line(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FREE_THREADED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("lfscp: ")
    assert "free-threaded" in line
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_a_server_does_not_start(monkeypatch):
    usual = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED" or usual(name)
    )
    ae = AE()
    ae.add_supported_context(Verification)
    server = LeaderFollowerServer(ae, ("127.0.0.1", 0))
    with pytest.raises(PythonBuildError, match="free-threaded"):
        server.start()
    monkeypatch.undo()
    server.start()  # it listened nowhere, so it can still be started
    server.shutdown()
