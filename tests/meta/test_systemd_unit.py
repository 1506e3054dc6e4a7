"""The systemd unit is as hardened as promised, and names no option that systemd does not know."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lfscp.config.sources import SYSTEM_FILE, resolve_settings

CONFIG = Path(__file__).parents[2] / "config"
MAX_EXPOSURE = 3.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"),
    reason="systemd-analyze is not installed (apt-get install systemd)",
)


@needs_systemd
def test_the_unit_s_exposure_is_below_the_promised_level():
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "lfscp.service"]
    done = subprocess.run(command, cwd=CONFIG, capture_output=True, text=True)
    level = re.search(r"Overall exposure level for lfscp.service: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) < MAX_EXPOSURE


@needs_systemd
def test_systemd_understands_unit_and_socket():
    command = ["systemd-analyze", "verify", "--man=no", "./lfscp.service", "./lfscp.socket"]
    done = subprocess.run(command, cwd=CONFIG, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []  # except that lfscp is not installed where the unit expects it


def test_the_unit_promises_what_the_node_keeps():
    unit = (CONFIG / "lfscp.service").read_text(encoding="utf-8")
    for line in (
        "Type=notify",
        "User=lfscp",
        "StateDirectory=lfscp",
        "ProtectSystem=strict",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ):
        assert line in unit.splitlines()


def test_the_unit_lets_the_node_bind_its_threads():
    lines = (CONFIG / "lfscp.service").read_text(encoding="utf-8").splitlines()
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    # In this order: what a line takes away, a later one gives back.
    assert filters[-2:] == [
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=sched_setaffinity",
    ]


def test_the_unit_and_the_commands_beside_it_use_one_data_folder(tmp_path):
    unit = (CONFIG / "lfscp.service").read_text(encoding="utf-8")
    (edit,) = re.findall(r"^#   sed -i '(.*)' /etc/lfscp/lfscp.toml$", unit, re.MULTILINE)
    installed = tmp_path / "lfscp.toml"
    shutil.copy(CONFIG / "lfscp.toml", installed)
    subprocess.run(["sed", "-i", edit, installed], check=True)

    by_the_command = resolve_settings(installed, environment={}).settings
    by_the_unit = resolve_settings(
        installed, environment={"STATE_DIRECTORY": "/elsewhere"}
    ).settings
    assert str(by_the_command.data_dir) == str(by_the_unit.data_dir) == "/var/lib/lfscp"
    (started,) = re.findall(r"^ExecStart=\S+ serve --config (\S+)$", unit, re.MULTILINE)
    assert Path(started) == SYSTEM_FILE  # which the commands read when they are told nothing
