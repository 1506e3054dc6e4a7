"""The deployment of the documents under a real systemd, installed from the wheel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import debian_machine
from tests.support.debian_machine import LFSCP, ROOT, Machine

# The first one waits for the machine, which is made of packages.
pytestmark = pytest.mark.timeout(900)
NODE = "LFSCP@127.0.0.1:11112"
OBJECT = "/opt/lfscp/lib/python3*/site-packages/pydicom/data/test_files/CT_small.dcm"
PATIENT = "1CT1"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if debian_machine.missing():
        pytest.fail(debian_machine.missing())  # whoever asks for these tests wants them to run
    with debian_machine.booted(debian_machine.prepared(ROOT / ".venv/machine")) as found:
        yield found


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The machine with the service as `lfscp service install` makes it; then removed again."""
    machine.run(LFSCP, "service", "install")
    yield machine
    machine.run(LFSCP, "service", "remove")
    machine.run("rm", "-rf", "/etc/lfscp", "/var/lib/lfscp", "/etc/systemd/system/lfscp.service.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", "lfscp.service", must_succeed=False)


def main_pid(machine: Machine) -> str:
    return machine.shown("MainPID")


def wait_for_another(machine: Machine, before: str) -> None:
    """Wait until the service runs in another process than before, and answers."""
    command = ("sh", "-c", f"systemctl show --property MainPID --value lfscp | grep -vx {before}")
    machine.until(command, "\n")
    machine.until(("systemctl", "is-active", "lfscp.service"), "active\n")
    machine.until((LFSCP, "echo", NODE), "answers")


def store(machine: Machine) -> None:
    assert "1 sent" in machine.run("sh", "-c", f"{LFSCP} send {NODE} {OBJECT}").stdout


def holds_the_object(machine: Machine) -> bool:
    found = machine.run(LFSCP, "find", NODE, "-k", f"PatientID={PATIENT}").stdout
    return found.endswith("1 match\n")


def test_the_service_starts_and_stores_as_its_user(service: Machine) -> None:
    assert service.shown("ActiveState") == "active"
    assert "listening on 0.0.0.0:11112" in service.shown("StatusText")
    store(service)
    assert holds_the_object(service)
    owners = service.run("find", "/var/lib/lfscp", "-not", "-user", "lfscp").stdout
    assert owners == ""
    rights = service.run("stat", "-c", "%a %U:%G", "/etc/lfscp/lfscp.toml").stdout
    assert rights == "640 root:lfscp\n"
    assert '"format":"json"' not in service.log()
    assert '"event":"listening"' in service.log()
    assert "0 wrong" in service.lfscp("doctor")


def test_a_backup_is_made_beside_it(service: Machine) -> None:
    store(service)
    service.run("install", "-d", "-o", "lfscp", "-g", "lfscp", "-m", "750", "/srv/backup")
    assert "1 objects" in service.lfscp("backup", "/srv/backup/lfscp")


def test_reload_reads_the_configuration_and_keeps_the_process(service: Machine) -> None:
    before = main_pid(service)
    edit = "s/^#max_associations = .*/max_associations = 7/"
    service.run("sed", "-i", edit, "/etc/lfscp/lfscp.toml")
    service.run("systemctl", "reload", "lfscp")
    service.until(("journalctl", "--unit", "lfscp", "--no-pager"), "server.max_associations")
    assert main_pid(service) == before


def test_usr2_puts_a_new_process_in_the_place_of_the_old_one(service: Machine) -> None:
    store(service)
    before = main_pid(service)
    service.run("systemctl", "kill", "--kill-whom=main", "-s", "USR2", "lfscp")
    wait_for_another(service, before)
    assert service.shown("NRestarts") == "0"
    assert holds_the_object(service)


def test_after_kill_9_it_runs_again_with_all_that_it_stored(service: Machine) -> None:
    store(service)
    before = main_pid(service)
    service.run("kill", "-9", before)
    wait_for_another(service, before)
    assert service.shown("NRestarts") == "1"
    assert holds_the_object(service)


def test_the_watchdog_ends_a_node_that_hangs(service: Machine) -> None:
    soon = "[Service]\nWatchdogSec=3\n"
    service.write("/etc/systemd/system/lfscp.service.d/soon.conf", soon)
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "restart", "lfscp")
    before = main_pid(service)
    service.run("kill", "-STOP", before)
    wait_for_another(service, before)
    assert "Watchdog timeout" in service.log()


def test_a_stop_is_clean(service: Machine) -> None:
    service.run("systemctl", "stop", "lfscp")
    assert service.shown("ActiveState") == "inactive"
    assert service.shown("Result") == "success"
    left = service.run("pgrep", "-u", "lfscp", must_succeed=False).stdout
    assert left == ""


def test_systemd_may_open_a_port_below_1024(service: Machine) -> None:
    service.run("sed", "-i", "s/=11112/=104/", "/etc/systemd/system/lfscp.socket")
    service.run(LFSCP, "service", "install", "--socket")
    assert service.shown("ActiveState") == "inactive"  # until somebody calls
    assert "answers" in service.run(LFSCP, "echo", "LFSCP@127.0.0.1:104").stdout
    assert service.shown("ActiveState") == "active"
    service.run("systemctl", "restart", "lfscp.service")
    assert "answers" in service.run(LFSCP, "echo", "LFSCP@127.0.0.1:104").stdout
    again = service.run(LFSCP, "service", "install", "--socket").stdout
    assert "keep /etc/systemd/system/lfscp.socket" in again


def test_a_removal_keeps_configuration_and_data(service: Machine) -> None:
    store(service)
    service.run(LFSCP, "service", "remove")
    there = service.run(
        "sh", "-c", "ls /etc/systemd/system/lfscp* /etc/sysusers.d", must_succeed=False
    )
    assert "lfscp.service" not in there.stdout
    assert service.run("ls", "/etc/lfscp/lfscp.toml", "/var/lib/lfscp/index.sqlite").stdout
    service.run(LFSCP, "service", "install")
    service.until((LFSCP, "echo", NODE), "answers")
    assert holds_the_object(service)


def test_only_root_may_install(machine: Machine) -> None:
    done = machine.run(
        "runuser", "-u", "nobody", "--", LFSCP, "service", "install", must_succeed=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "only root may do this" in done.stderr
