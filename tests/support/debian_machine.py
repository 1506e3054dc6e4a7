"""A Debian machine with a systemd of its own, where lfscp is installed from its wheel.

It needs root, debootstrap and systemd-nspawn. Its file system is made once for each suite of
Debian; what a test changes in it is gone when it is switched off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter")
LFSCP = "/opt/lfscp/bin/lfscp"
_PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,python3-venv,ca-certificates"
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
_NSPAWN = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit")
_BOOT_S = 60.0
_END_S = 60.0


def missing() -> str:
    """Why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can start a machine"
    lacking = [each for each in PROGRAMS if shutil.which(each) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


class Machine:
    """A machine that runs."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def run(
        self, *command: str, given: str = "", must_succeed: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        inside = ["nsenter", "--target", str(self._leader), "--all", *_ENVIRONMENT]
        done = subprocess.run(
            [*inside, *command], input=given, capture_output=True, text=True, timeout=120
        )
        assert not must_succeed or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def lfscp(self, *arguments: str, must_succeed: bool = True) -> str:
        """What an lfscp command prints, for the user of the service."""
        done = self.run(
            "runuser", "-u", "lfscp", "--", LFSCP, *arguments, must_succeed=must_succeed
        )
        return done.stdout + done.stderr

    def write(self, file: str, text: str) -> None:
        """Write a file in it."""
        self.run("mkdir", "-p", str(Path(file).parent))
        self.run("tee", file, given=text)

    def shown(self, name: str, unit: str = "lfscp.service") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def log(self) -> str:
        """The log of the service."""
        return self.run("journalctl", "--unit", "lfscp.service", "--no-pager").stdout

    def until(self, command: tuple[str, ...], expected: str, seconds: float = 60.0) -> None:
        """Wait until a command prints something."""
        deadline = time.monotonic() + seconds
        while expected not in (said := self.run(*command, must_succeed=False).stdout):
            assert time.monotonic() < deadline, (command, said, self.log())
            time.sleep(0.2)


def prepared(folder: Path) -> Path:
    """The file system of the machine, with lfscp of this source tree in /opt/lfscp."""
    suite = _suite()
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / suite
    if not root.exists():
        part = folder / f"{suite}.part"
        _remove(part)
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(part))
        part.rename(root)
    wheels = folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    maker = folder / "venv"  # of the system's Python, which is the machine's too
    if not maker.exists():
        _run("/usr/bin/python3", "-m", "venv", str(maker))
    _run(str(maker / "bin/pip"), "wheel", "--quiet", "-w", str(wheels), f"{ROOT}[codecs]")
    install = (
        "python3 -m venv --clear /opt/lfscp && /opt/lfscp/bin/pip install --quiet --no-index "
        "--find-links /wheels 'lfscp[codecs]'"
    )
    mount = f"--bind-ro={wheels}:/wheels"
    _run(*_NSPAWN, f"--directory={root}", mount, "sh", "-c", install)
    return root


def _remove(part: Path) -> None:
    """Remove what a debootstrap left that was broken off; the kernel's files are mounted in it."""
    for each in ("proc", "sys"):
        if (part / each).is_mount():
            _run("umount", str(part / each))
    shutil.rmtree(part, ignore_errors=True)


def _suite() -> str:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("=", 1) for line in lines if "=" in line)
    return names["VERSION_CODENAME"].strip('"')


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """The machine, switched on; at the end it is switched off."""
    command = [
        *(*_NSPAWN, f"--directory={root}", "--boot", "--volatile=overlay"),
        *("--private-network", f"--machine=lfscp-{os.getpid()}", "--console=pipe"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sys.stderr
    ) as process:
        try:
            yield _ready(process)
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(process: subprocess.Popen[bytes]) -> Machine:
    deadline = time.monotonic() + _BOOT_S
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline:
        assert process.poll() is None, "the machine did not start"
        for leader in children.read_text().split():
            machine = Machine(int(leader))
            state = machine.run("systemctl", "is-system-running", must_succeed=False).stdout
            if state.strip() in ("running", "degraded"):
                return machine
        time.sleep(0.2)
    raise AssertionError("the machine did not come up")
