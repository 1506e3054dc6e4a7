"""Plug-ins in real nodes: what peers, browsers and administrators see of them."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import BasicFilmSession, BasicGrayscalePrintManagementMeta

from lfscp.config.passwords import hash_password
from tests.support.dicom_peer import until
from tests.support.node_process import StartNode, run_lfscp
from tests.support.plugin_files import plugin
from tests.support.pynetdicom_client import FIND, association, get, store

CT_FILE = Path(get_testdata_file("CT_small.dcm"))
MR_FILE = Path(get_testdata_file("MR_small.dcm"))
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = str(ExplicitVRLittleEndian)
NOT_AUTHORISED = 0x0124
ALL = """
from pathlib import Path
import os
def write(node, *words):
    with open(node.settings["file"], "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")
@hook
def startup(node): write(node, "startup", os.getpid())
@hook
def shutdown(node): write(node, "shutdown", os.getpid())
@hook
def may_store(arrival):
    if arrival.dataset.Modality == "MR": return Refusal("no MR")
@hook
def stored(stored, node): write(node, "stored", stored.sop_class_uid, os.getpid())
@hook
def may_find(query):
    if query.keys.get("PatientID") == "secret": return Refusal("not this patient")
@hook
def found(answered, node): write(node, "found", answered.query.calling_ae_title, answered.matches)
@hook
def before_send(sending):
    if sending.destination == "PYNETDICOM": return Refusal("not to this one")
"""


def configured(folder: Path, text: str, name: str = "mine") -> tuple[str, Path]:
    """The configuration with one plug-in, and the file that it writes to."""
    file, heard = plugin(folder, name, text), folder / "heard"
    return (
        f'[plugins]\nfiles = ["{file}"]\nhang_s = 0.5\nstop_timeout_s = 2.0\n'
        f'[plugins.settings.{name}]\nfile = "{heard}"\n'
    ), heard


def lines(heard: Path) -> list[str]:
    return heard.read_text().splitlines() if heard.exists() else []


def find(port: int, **keys: str) -> list[int]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    with association(port, [(FIND, EXPLICIT)]) as assoc:
        return [status.Status for status, _ in assoc.send_c_find(identifier, FIND)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.second_database
def test_a_plug_in_decides_and_hears(
    start_node: StartNode, tmp_path: Path, workers: int, index_url: str
) -> None:
    configuration, heard = configured(tmp_path, ALL)
    if index_url:
        configuration += f'[index]\nurl = "{index_url}"\n'
    node = start_node(configuration=configuration, flags=["--workers", workers])
    assert store(node.port, CT_FILE, MR_FILE) == [0, NOT_AUTHORISED]
    refused = node.wait_for("C-STORE", status="0x0124")
    assert refused["reason"].endswith("no MR")
    assert find(node.port, PatientID="*") == [0xFF00, 0]
    assert find(node.port, PatientID="secret") == [NOT_AUTHORISED]
    study = str(dcmread(CT_FILE).StudyInstanceUID)
    status, contents = get(node.port, {"StudyInstanceUID": study}, "STUDY", [(CT, EXPLICIT)])
    assert (status, contents) == (0xA702, {})
    assert "not to this one" in node.wait_for("sub-operation failed")["reason"]
    assert until(lambda: any(line.startswith("found") for line in lines(heard)))
    assert until(lambda: any(line.startswith("stored") for line in lines(heard)))
    assert node.stop() == 0
    said = lines(heard)
    assert len([line for line in said if line.startswith("startup")]) == workers
    assert len([line for line in said if line.startswith("shutdown")]) == workers
    assert [line.rsplit(" ", 1)[0] for line in said if line.startswith("stored")] == [
        f"stored {CT}"
    ]
    assert [line for line in said if line.startswith("found")] == ["found PYNETDICOM 1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_hangs_stops_neither_store_nor_end(
    start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    text = "import threading\n@hook\ndef {}({}): threading.Event().wait()\n"
    both = text.format("may_store", "arrival") + text.format("stored", "stored")
    configuration, _ = configured(tmp_path, both)
    configuration = configuration.replace("hang_s", "decision_timeout_s = 0.2\nhang_s")
    node = start_node(
        configuration=configuration, flags=["--workers", workers], errors_expected=True
    )
    assert store(node.port, CT_FILE, MR_FILE) == [0, 0]
    node.wait_for("plug-in did not answer in time", plugin="mine", hook="may_store")
    node.wait_for("plug-in hangs", plugin="mine", hook="stored")
    assert node.stop() == 0
    node.wait_for("plug-in left behind at the end", plugin="mine", hook="stored")
    assert "Traceback" not in node.log


def test_the_child_of_one_that_forks_does_not_go_on_as_the_node(
    start_node: StartNode, tmp_path: Path
) -> None:
    fork = """
    import os
    def fork(node):
        child = os.fork()
        if child:
            with open(node.settings["file"], "a") as file: file.write(f"{child}\\n")
    @hook
    def may_store(arrival, node): fork(node)
    @hook
    def stored(stored, node): fork(node)
    """
    configuration, heard = configured(tmp_path, fork)
    node = start_node(configuration=configuration)
    assert store(node.port, CT_FILE, MR_FILE) == [0, 0]
    assert until(lambda: len(lines(heard)) == 4)
    assert until(lambda: not any(runs(int(child)) for child in lines(heard)))
    assert store(node.port, CT_FILE) == [0]
    assert node.stop() == 0
    with socket.create_server(("127.0.0.1", node.port)):
        pass  # nobody has kept the port


def runs(process: int) -> bool:
    """Whether a process runs; one that has ended and nobody waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_wrong_plug_in_is_refused_at_the_start_and_at_a_reload(
    start_node: StartNode, tmp_path: Path
) -> None:
    configuration, heard = configured(tmp_path, "@hook\ndef storred(): ...")
    file = tmp_path / "mine.py"
    (tmp_path / "wrong.toml").write_text(configuration)
    done = run_lfscp("serve", "--config", tmp_path / "wrong.toml", "--data-dir", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr.startswith(f"lfscp: plugins.files: {file}: there is no hook storred; there")
    assert not (tmp_path / "none").exists()
    configured(tmp_path, ALL)
    node = start_node(configuration=configuration, flags=["--workers", 2], errors_expected=True)
    file.write_text("def (")
    said = node.reload(configuration, says="configuration not reloaded, the old one stays")
    assert said["reason"] == f"plugins.files: {file}: line 1: invalid syntax"
    assert store(node.port, MR_FILE) == [NOT_AUTHORISED]
    configured(tmp_path, ALL.replace('"MR"', '"CT"').replace("no MR", "no CT"))
    before = len(node.lines)
    node.reload(configuration)
    assert until(lambda: sum(line.startswith("startup") for line in lines(heard)) == 4)
    assert store(node.port, MR_FILE, CT_FILE) == [0, NOT_AUTHORISED]
    assert node.events("plug-in failed", since=before) == []


PRINTS = f"""
from pynetdicom import evt
from pydicom.dataset import Dataset
def create(event):
    answer = Dataset()
    answer.AffectedSOPInstanceUID = "1.2.3"
    answer.NumberOfCopies = event.attribute_list.NumberOfCopies
    return 0x0000, answer
@hook
def handlers():
    return Services(["{BasicGrayscalePrintManagementMeta}"], [(evt.EVT_N_CREATE, create)])
"""


def test_a_plug_in_adds_a_sop_class(start_node: StartNode, tmp_path: Path) -> None:
    configuration, _ = configured(tmp_path, PRINTS)
    node = start_node(configuration=configuration)
    session = Dataset()
    session.NumberOfCopies = 2
    with association(node.port, [(BasicGrayscalePrintManagementMeta, EXPLICIT)]) as assoc:
        status, answer = assoc.send_n_create(
            session, BasicFilmSession, meta_uid=BasicGrayscalePrintManagementMeta
        )
        assert (status.Status, answer.NumberOfCopies) == (0, 2)
    # The node's own N-CREATE goes on: this one lacks what a performed step must have.
    step = "1.2.840.10008.3.1.2.3.3"
    with association(node.port, [(step, EXPLICIT)]) as assoc:
        status, _ = assoc.send_n_create(session, step, "1.2.3.4")
        assert status.Status in (0x0106, 0x0120, 0x0121)


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        (CT, "the node has SOP class"),
        ("1.2.3", "pynetdicom knows no service class"),
        ("x", "is no UID"),
    ],
)
def test_a_sop_class_that_cannot_be_added_is_said_at_the_start(
    tmp_path: Path, uid: str, reason: str
) -> None:
    configuration, _ = configured(tmp_path, f"@hook\ndef handlers(): return Services(['{uid}'])")
    (tmp_path / "wrong.toml").write_text(configuration)
    flags = ("--data-dir", tmp_path / "data", "--port", 0, "--no-http")
    done = run_lfscp("serve", "--config", tmp_path / "wrong.toml", *flags)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "plug-in mine: " in last
    assert reason in last


ROUTES = """
from fastapi import APIRouter
router = APIRouter()
@router.get("/count")
def count(): return {"ok": True}
@router.post("/work")
def work(): return {"worked": True}
@router.post("/admin/drop")
def drop(): return {"dropped": True}
@router.get("/broken")
def broken(): raise ValueError("x")
@hook
def routes(node): return router
"""


def test_routes_of_a_plug_in_are_behind_the_login_and_the_roles(
    start_node: StartNode, tmp_path: Path
) -> None:
    hashed = hash_password("secret")
    users = ", ".join(f'"{role}:{role}:{hashed}"' for role in ("read", "work", "admin"))
    configuration, _ = configured(tmp_path, ROUTES)
    node = start_node(
        configuration=configuration + f"[web]\nusers = [{users}]\n",
        flags=["--http-port", 0, "--workers", 1],
        errors_expected=True,
    )
    url = node.wait_for("page")["url"]

    def ask(method: str, path: str, user: str = "") -> int:
        login = (user, "secret") if user else None
        answer = httpx2.request(method, f"{url}plugins/mine/{path}", auth=login, timeout=60)
        assert "ValueError" not in answer.text
        return answer.status_code

    assert ask("GET", "count") == 401
    assert [ask("GET", "count", user) for user in ("read", "admin")] == [200, 200]
    assert [ask("POST", "work", user) for user in ("read", "work")] == [403, 200]
    assert [ask("POST", "admin/drop", user) for user in ("work", "admin")] == [403, 200]
    assert ask("GET", "broken", "admin") == 500
    assert ask("GET", "nothing", "admin") == 404


JOBS = """
@hook
def before_send(sending):
    if sending.sop_class_uid == "1.2.840.10008.5.1.4.1.1.4": return Refusal("no MR")
@hook
def job_ended(job, node):
    with open(node.settings["file"], "a") as file:
        file.write(f"{job.kind} {job.state} {job.peers} {job.done} {job.failed}\\n")
"""


def test_what_a_job_sends_is_decided_and_its_end_is_told(
    start_node: StartNode, tmp_path: Path
) -> None:
    receiver = start_node("receiver", flags=["--workers", 1])
    configuration, heard = configured(tmp_path, JOBS)
    node = start_node(
        configuration=configuration,
        flags=["--http-port", 0, "--workers", 2, "--peer", f"LFSCP@B=127.0.0.1:{receiver.port}"],
    )
    assert store(node.port, CT_FILE, MR_FILE) == [0, 0]
    studies = [str(dcmread(file).StudyInstanceUID) for file in (CT_FILE, MR_FILE)]
    url = node.wait_for("page")["url"]
    asked = {"peer": "LFSCP@B", "studies": studies}
    answer = httpx2.post(f"{url}api/send", json=asked, timeout=60)
    assert answer.status_code == 202, answer.text
    assert until(lambda: lines(heard) != [])
    (said,) = lines(heard)
    assert said.startswith("send ")
    assert said.endswith(" 1 1")
    assert receiver.events("C-STORE", sop_class_uid=CT, status="0x0000")
    assert not receiver.events("C-STORE", sop_class_uid=MR)


def test_stow_and_qido_are_decided_too(start_node: StartNode, tmp_path: Path) -> None:
    configuration, heard = configured(tmp_path, ALL)
    node = start_node(configuration=configuration, flags=["--http-port", 0, "--workers", 1])
    url = node.wait_for("page")["url"]

    def stow(file: Path) -> tuple[int, list[int]]:
        answer = httpx2.post(
            f"{url}dicom-web/studies",
            content=b"--X\r\nContent-Type: application/dicom\r\n\r\n"
            + file.read_bytes()
            + b"\r\n--X--\r\n",
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=X'},
            timeout=60,
        )
        failed = answer.json().get("00081198", {}).get("Value", [])
        return answer.status_code, [each["00081197"]["Value"][0] for each in failed]

    assert [stow(CT_FILE), stow(MR_FILE)] == [(200, []), (409, [NOT_AUTHORISED])]
    answer = httpx2.get(f"{url}dicom-web/studies?PatientID=*", timeout=60)
    assert len(answer.json()) == 1
    answer = httpx2.get(f"{url}dicom-web/studies?PatientID=secret", timeout=60)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "not this patient"
    assert until(lambda: any(line.startswith("found") for line in lines(heard)))
