"""Objects go on by routes to real destinations, which die and come back; nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.support import dcmtk as tools
from tests.support import orthanc as orthancs
from tests.support.dcmqrscp import dcmqrscp
from tests.support.dcmtk import dataset_bytes
from tests.support.dicom_peer import until
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.pynetdicom_client import find, store
from tests.support.sample_objects import made

PATIENCE_S = 60.0


def route(name: str = "on", *, to: str = "DST", **keys: Any) -> str:
    """A `[[route]]` whose retries come soon."""
    settings = {"name": name, "send_to": [to], "retry_delay_s": 0.5, **keys}
    lines = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
    return f"\n[[route]]\n{lines}\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def peer(title: str, port: int) -> str:
    return f'\n[peers.{title}]\nhost = "127.0.0.1"\nport = {port}\n'


def of_index(url: str | None, objects: Path) -> str:
    if url is None:
        return ""
    return f'[index]\nurl = "{url}"\n[objects]\nurl = "file://{objects}"\n'


def here(node: NodeProcess) -> set[str]:
    """The objects in a node's folder."""
    return {path.stem for path in node.objects.glob("*/*/*.dcm")}


def queues(config: Path, data_dir: Path) -> list[dict[str, Any]]:
    """The queues, by `lfscp route list`."""
    listed = run_lfscp("route", "list", "--json", "--config", config, "--data-dir", data_dir)
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def of_study(folder: Path, count: int, **attributes: Any) -> list[Path]:
    study, series = generate_uid(), generate_uid()
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return [made(folder, **uids, InstanceNumber=at, **attributes) for at in range(count)]


def names(files: list[Path]) -> set[str]:
    return {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}


def wait_until(is_so: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    assert until(is_so, PATIENCE_S), what()


@pytest.mark.parametrize("index_url", ["sqlite", "postgresql"], indirect=True)
def test_what_was_acknowledged_goes_on_though_the_node_and_its_destination_die(
    start_node: StartNode, index_url: str | None, tmp_path: Path
) -> None:
    port = tools.free_port()
    objects = tmp_path / "objects"
    node = start_node(
        configuration=of_index(index_url, objects) + peer("DST", port) + route(),
    )
    files = of_study(tmp_path / "sent", 30)
    assert store(node.port, *files[:20]) == [0x0000] * 20  # nobody is there to take them
    node.kill()
    node.start()
    assert store(node.port, *files[20:]) == [0x0000] * 10
    destination = start_node("destination", flags=["--port", port, "--aet", "DST"])
    wait_until(lambda: len(here(destination)) > 3, lambda: node.tail)
    destination.kill()
    node.kill()
    destination.start()
    node.start()
    wait_until(lambda: here(destination) == names(files), lambda: node.tail)
    config = tmp_path / "node/lfscp.toml"
    wait_until(lambda: all(each["waiting"] == 0 for each in queues(config, node.data_dir)))
    for file in files:
        (arrived,) = destination.objects.glob(f"*/*/{names([file]).pop()}.dcm")
        assert dataset_bytes(arrived) == dataset_bytes(file)
    numbers = [
        event["sop_instance_uid"]
        for event in destination.events("C-STORE", calling_ae_title="LFSCP")
        if event["status"] == "0x0000"
    ]
    in_order = [str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    firsts = list(dict.fromkeys(numbers))
    assert firsts == [uid for uid in in_order if uid in set(firsts)]  # the order was kept


@pytest.mark.parametrize("index_url", ["sqlite", "postgresql"], indirect=True)
def test_a_study_goes_as_a_whole_once_it_is_quiet_also_over_a_restart(
    start_node: StartNode, index_url: str | None, tmp_path: Path
) -> None:
    destination = start_node("destination", flags=["--aet", "DST"])
    wanted = route(on="study", quiet_s=3600, when={"Modality": "CT", "InstanceNumber": 2})
    node = start_node(
        configuration=of_index(index_url, tmp_path / "objects")
        + peer("DST", destination.port)
        + wanted
    )
    files = of_study(tmp_path / "sent", 4)
    assert store(node.port, *files) == [0x0000] * 4
    node.restart()
    config = tmp_path / "node/lfscp.toml"
    (queue,) = queues(config, node.data_dir)
    assert (queue["held"], here(destination)) == (1, set())  # it is not quiet for long enough
    node.reload(config.read_text().replace("quiet_s = 3600", "quiet_s = 0.5"))
    wait_until(lambda: here(destination) == names(files), lambda: node.tail)
    node.wait_for("complete, is sent on", instances=4)
    later = made(
        tmp_path / "sent",
        StudyInstanceUID=dcmread(files[0]).StudyInstanceUID,
        InstanceNumber=2,
    )
    assert store(node.port, later) == [0x0000]
    wait_until(lambda: here(destination) == names([*files, later]), lambda: node.tail)
    wait_until(lambda: queues(config, node.data_dir)[0]["waiting"] == 0, lambda: node.tail)
    assert queues(config, node.data_dir)[0]["sent"] == 5  # what had gone did not go again


def test_objects_do_not_go_round_in_a_circle_of_three_nodes(
    start_node: StartNode, tmp_path: Path
) -> None:
    ports = {title: tools.free_port() for title in ("ONE", "TWO", "THREE")}
    following = {"ONE": "TWO", "TWO": "THREE", "THREE": "ONE"}
    nodes = {
        title: start_node(
            title,
            configuration="".join(peer(*each) for each in ports.items())
            + route(to=following[title])
            + route("back", to=following[following[title]]),
            flags=["--port", port, "--aet", title],
        )
        for title, port in ports.items()
    }
    file = made(tmp_path / "sent")
    assert store(nodes["ONE"].port, file) == [0x0000]
    for node in nodes.values():
        wait_until(lambda node=node: here(node) == names([file]), lambda node=node: node.tail)
    for title in nodes:
        config, data = tmp_path / title / "lfscp.toml", nodes[title].data_dir
        wait_until(lambda c=config, d=data: not any(q["waiting"] for q in queues(c, d)))
    stores = sum(len(node.events("C-STORE")) for node in nodes.values())
    time.sleep(2)
    assert sum(len(node.events("C-STORE")) for node in nodes.values()) == stores <= 7


def test_dcmqrscp_takes_what_the_first_of_a_fail_over_list_cannot(
    start_node: StartNode, dcmtk: Any, tmp_path: Path
) -> None:
    first = tools.free_port()
    with dcmqrscp(tmp_path / "qrscp") as second:
        node = start_node(
            configuration=peer("FIRST", first)
            + peer("QRSCP", second)
            + route(send_to=["FIRST", "QRSCP"], mode="failover")
        )
        files = of_study(tmp_path / "sent", 3)
        assert store(node.port, *files) == [0x0000] * 3
        kept = tmp_path / "qrscp/storage"
        wait_until(lambda: len(list(kept.glob("CT*"))) == 3, lambda: node.tail)
        destination = start_node("first", flags=["--port", first, "--aet", "FIRST"])
        later = of_study(tmp_path / "later", 2)
        assert store(node.port, *later) == [0x0000] * 2
        wait_until(lambda: here(destination) == names(later), lambda: node.tail)
        assert len(list(kept.glob("CT*"))) == 3


def test_orthanc_takes_objects_by_stow(start_node: StartNode, tmp_path: Path) -> None:
    if not orthancs.PROGRAM.exists() or not orthancs.DICOMWEB.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    with orthancs.orthanc_dicomweb(tmp_path / "orthanc", "me", "secret") as url:
        web = f'\n[peers.CLOUD]\nurl = "{url}"\nuser = "me"\npassword = "secret"\n'
        node = start_node(configuration=web + route(to="CLOUD", when={"PatientID": "P1"}))
        files = of_study(tmp_path / "sent", 5)
        other = made(tmp_path / "other", PatientID="P2")
        assert store(node.port, *files, other) == [0x0000] * 6
        node.wait_for("sent on", destination="CLOUD")
        config = tmp_path / "node/lfscp.toml"
        wait_until(lambda: queues(config, node.data_dir)[0]["sent"] == 5, lambda: node.tail)
        found = run_lfscp(
            *("find", url, "--user", "me", "-k", "PatientID", "--level", "STUDY"),
            env={"LFSCP_PEER_PASSWORD": "secret"},
        )
        assert "P1" in found.stdout
        assert "P2" not in found.stdout


def test_what_comes_by_http_goes_the_same_way(start_node: StartNode, tmp_path: Path) -> None:
    destination = start_node("destination", flags=["--aet", "DST"])
    http = tools.free_port()
    node = start_node(
        configuration=peer("DST", destination.port)
        + route("near", when={"address": "127.0.0.0/8", "Modality": "CT"})
        + route("far", when={"address": "10.0.0.0/8"}),
        flags=["--http-port", http],
    )
    file, other = made(tmp_path / "sent"), made(tmp_path / "other", Modality="MR")
    url = f"http://127.0.0.1:{http}/dicom-web"
    assert run_lfscp("send", url, file, other).returncode == 0
    wait_until(lambda: here(destination) == names([file]), lambda: node.tail)
    node.wait_for("sent on", route="near", instances=1)


def test_another_node_goes_on_when_one_dies(
    start_node: StartNode, postgresql_url: str, tmp_path: Path
) -> None:
    port = tools.free_port()
    shared = "[jobs]\nlease_s = 2\n" + of_index(postgresql_url, tmp_path / "objects")
    configuration = shared + peer("DST", port) + route()
    one, other = (start_node(name, configuration=configuration) for name in ("one", "other"))
    files = of_study(tmp_path / "sent", 10)
    assert store(one.port, *files) == [0x0000] * 10
    one.kill()
    destination = start_node("destination", flags=["--port", port, "--aet", "DST"])
    wait_until(lambda: here(destination) == names(files), lambda: other.tail)
    other.wait_for("sent on", instances=10)


def test_an_object_stays_in_the_queue_until_its_destination_has_committed(
    start_node: StartNode, tmp_path: Path
) -> None:
    port = tools.free_port()
    destination = start_node(
        "destination", configuration=peer("LFSCP", port), flags=["--aet", "DST"]
    )
    node = start_node(
        configuration=peer("DST", destination.port) + route(commit=True),
        flags=["--port", port],
    )
    files = of_study(tmp_path / "sent", 3)
    assert store(node.port, *files) == [0x0000] * 3
    config = tmp_path / "node/lfscp.toml"
    wait_until(lambda: queues(config, node.data_dir)[0]["sent"] == 3, lambda: node.tail)
    assert queues(config, node.data_dir)[0]["waiting"] == 0
    assert here(destination) == names(files)


def test_queues_are_seen_and_steered_by_the_command_line(
    start_node: StartNode, tmp_path: Path
) -> None:
    destination = start_node("destination", flags=["--aet", "DST"])
    node = start_node(
        configuration=peer("DST", destination.port)
        + route("ct", when={"Modality": "CT"})
        + route("later", on="study", quiet_s=3000, when={"Modality": "MR"})
    )
    config, data = tmp_path / "node/lfscp.toml", node.data_dir
    at = ("--config", config, "--data-dir", data)
    assert run_lfscp("route", "pause", "ct", "DST", *at).returncode == 0
    file, held = made(tmp_path / "sent"), made(tmp_path / "sent", Modality="MR")
    assert store(node.port, file, held) == [0x0000, 0x0000]
    ct, later = queues(config, data)
    assert (ct["is_paused"], ct["waiting"], later["held"]) == (True, 1, 1)
    assert "paused" in run_lfscp("route", "list", *at).stdout
    assert run_lfscp("route", "flush", "later", "DST", *at).stdout == "1 object to be sent now\n"
    wait_until(lambda: here(destination) == names([held]), lambda: node.tail)
    assert run_lfscp("route", "resume", "ct", "DST", *at).returncode == 0
    wait_until(lambda: here(destination) == names([file, held]), lambda: node.tail)
    unknown = run_lfscp("route", "drop", "ct", "NOBODY", *at)
    assert unknown.returncode == 1
    assert unknown.stderr == "lfscp: there is no queue of route ct to NOBODY\n"
    told = run_lfscp("route", "test", file, *at, "--calling", "DST")
    assert told.returncode == 1
    assert "ct: no: it came from DST, and does not go back" in told.stdout
    told = run_lfscp("route", "test", dcmread(held).StudyInstanceUID, *at)
    assert told.returncode == 0
    assert 'ct: no: Modality is "MR", wanted "CT"' in told.stdout
    assert "later: to DST, with its study, 3000 s after the last object" in told.stdout


def test_a_reload_changes_the_routes_unless_one_cannot_be(
    start_node: StartNode, tmp_path: Path
) -> None:
    destination = start_node("destination", flags=["--aet", "DST"])
    before = peer("DST", destination.port) + route("none", when={"Modality": "MR"})
    node = start_node(configuration=before, errors_expected=True)
    wrong = node.reload(
        before + route("new", to="NOBODY"), says="configuration not reloaded, the old one stays"
    )
    assert "route.1.send_to" in wrong["reason"]
    file = made(tmp_path / "sent")
    assert store(node.port, file) == [0x0000]
    assert node.reload(before + route("new"))["changed"] == "route"
    second = made(tmp_path / "sent")
    assert store(node.port, second) == [0x0000]
    wait_until(lambda: here(destination) == names([second]), lambda: node.tail)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"to": "NOBODY"}, 'route.0.send_to = "NOBODY": expected peers of [peers]; these are: DST'),
        ({"when": {"Modalty": "CT"}}, "route.0.when.Modalty"),
        ({"when": {"StudyDate": "2024-01-01"}}, "route.0.when.StudyDate"),
        ({"hours": ["25:00-26:00"]}, "route.0.hours.0"),
        ({"actions": [{"fold": "x"}]}, "route.0.actions.0"),
        ({"transfer_syntax": "JPEGBaseline8Bit"}, "route.0.transfer_syntax"),
        ({"to": "LFSCP"}, "would go round in a circle"),
    ],
)
def test_a_route_that_cannot_be_is_refused_at_the_start(
    tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    config = tmp_path / "lfscp.toml"
    config.write_text(peer("DST", 104) + peer("LFSCP", 11112) + route(**keys))
    refused = run_lfscp("serve", "--config", config, "--data-dir", tmp_path / "data", "--no-http")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert str(config) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_find_is_still_answered_while_routes_wait(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(configuration=peer("DST", tools.free_port()) + route())
    file = made(tmp_path / "sent", PatientID="P77")
    assert store(node.port, file) == [0x0000]
    (found,) = find(node.port, {"PatientID": "P77", "StudyInstanceUID": ""}, "STUDY")
    assert found.StudyInstanceUID == dcmread(file).StudyInstanceUID
