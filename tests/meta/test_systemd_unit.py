"""The systemd unit is as hardened as promised, and names no option that systemd does not know."""

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfscp.config.sources import SYSTEM_FILE, resolve_settings
from lfscp.systemd.installing import configuration

UNITS = Path(__file__).parents[2] / "lfscp/systemd"
MAX_EXPOSURE = 3.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"),
    reason="systemd-analyze is not installed (apt-get install systemd)",
)


@needs_systemd
def test_the_unit_s_exposure_is_below_the_promised_level():
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "lfscp.service"]
    done = subprocess.run(command, cwd=UNITS, capture_output=True, text=True)
    level = re.search(r"Overall exposure level for lfscp.service: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) < MAX_EXPOSURE


@needs_systemd
def test_systemd_understands_unit_and_socket():
    command = ["systemd-analyze", "verify", "--man=no", "./lfscp.service", "./lfscp.socket"]
    done = subprocess.run(command, cwd=UNITS, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []  # except that lfscp is not installed where the unit expects it


def test_the_unit_promises_what_the_node_keeps():
    unit = (UNITS / "lfscp.service").read_text(encoding="utf-8")
    for line in (
        "Type=notify",
        "User=lfscp",
        "StateDirectory=lfscp",
        "ProtectSystem=strict",
        "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'",
    ):
        assert line in unit.splitlines()


def test_the_unit_lets_the_node_bind_its_threads():
    lines = (UNITS / "lfscp.service").read_text(encoding="utf-8").splitlines()
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    # In this order: what a line takes away, a later one gives back.
    assert filters[-2:] == [
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=sched_setaffinity setpriority",
    ]


@needs_systemd
def test_the_unit_lets_the_node_limit_what_its_processes_take():
    assert {"prlimit64", "pidfd_open", "pidfd_send_signal", "setpriority"} <= _allowed()
    assert not {"setrlimit", "sched_setscheduler", "mount", "reboot", "setuid"} & _allowed()


@needs_systemd
def test_a_codec_process_works_under_the_unit_s_filter():
    """As systemd lays it on: what is not named fails with EPERM, of old system calls too."""
    seccomp = ctypes.util.find_library("seccomp")
    if seccomp is None:
        pytest.skip("libseccomp is not installed")
    done = subprocess.run(
        [sys.executable, "-c", UNDER_THE_FILTER, seccomp, *sorted(_allowed())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["limited", "decoded"], done.stderr


UNDER_THE_FILTER = """
import ctypes, errno, sys

seccomp = ctypes.CDLL(sys.argv[1])
seccomp.seccomp_init.restype = ctypes.c_void_p
FAILS, ALLOWED = 0x00050000 | errno.EPERM, 0x7FFF0000
rules = ctypes.c_void_p(seccomp.seccomp_init(FAILS))
for name in sys.argv[2:]:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert seccomp.seccomp_rule_add(rules, ALLOWED, number, 0) == 0
assert seccomp.seccomp_load(rules) == 0

import numpy as np
import resource
from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.codecs.codec_client import codec_process

with open("/proc/sys/kernel/ostype") as file:
    file.read()
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, resource.RLIM_INFINITY))
print("limited")
frame = np.array([1, 64, *[0] * 14], "<u4").tobytes() + b"\\x81\\0" * 32
image = ImagePixel(64, 64, 1, 8, 8, 7, False, "MONOCHROME2", 0, 1)
with codec_process(lambda: None) as codec:
    codec.begin("1.2.840.10008.1.2.5", [memoryview(frame)], image, 4 << 20, 0)
    assert b"".join(codec.finish().pieces) == bytes(64 * 64)
print("decoded")
"""


def _allowed():
    """The system calls that the unit leaves, by systemd's own sets."""
    lines = (UNITS / "lfscp.service").read_text(encoding="utf-8").splitlines()
    allowed = set()
    for line in lines:
        name, _, value = line.partition("=")
        if name == "SystemCallFilter":
            calls = {call for each in value.removeprefix("~").split() for call in _calls(each)}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _calls(name):
    """A system call, or those of one of systemd's sets and the sets in it."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name],
        capture_output=True,
        text=True,
        check=True,
    )
    inner = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return {call for each in inner if each and not each.startswith("#") for call in _calls(each)}


def test_the_unit_and_the_commands_beside_it_use_one_data_folder(tmp_path):
    unit = (UNITS / "lfscp.service").read_text(encoding="utf-8")
    installed = tmp_path / "lfscp.toml"
    installed.write_text(configuration(), encoding="utf-8")

    by_the_command = resolve_settings(installed, environment={}).settings
    by_the_unit = resolve_settings(
        installed, environment={"STATE_DIRECTORY": "/elsewhere"}
    ).settings
    assert str(by_the_command.data_dir) == str(by_the_unit.data_dir) == "/var/lib/lfscp"
    assert by_the_unit.logging.format == "json"
    (started,) = re.findall(r"^ExecStart=\S+ serve --config (\S+)$", unit, re.MULTILINE)
    assert Path(started) == SYSTEM_FILE  # which the commands read when they are told nothing
