"""Actions of routes between real nodes: what is sent, what is put aside, and what comes back."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.e2e.test_routes import here, names, of_index, of_study, peer, queues, route, wait_until
from tests.support import dcmtk as tools
from tests.support import orthanc as orthancs
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.plugin_files import plugin
from tests.support.pynetdicom_client import store
from tests.support.sample_objects import made

DOCUMENT = Path(__file__).parents[2] / "config" / "routing.md"
TWELVE_BITS = bytes(at % 16 if at % 2 else at for at in range(256)) * 2
BOTH = pytest.mark.parametrize("index_url", ["sqlite", "postgresql"], indirect=True)


def blocks(heading: str, language: str) -> list[str]:
    """The code below a heading of the document."""
    section = DOCUMENT.read_text().split(f"### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def example(heading: str, **instead: object) -> str:
    """The configuration of an example, with other addresses, files and times."""
    (text,) = blocks(heading, "toml")
    for word, value in instead.items():
        pattern = rf"(?<![\w\"]){word} = ([^,\n}}]*)"
        text, count = re.subn(pattern, f"{word} = {value}", text)
        assert count, word
    tomllib.loads(text)
    return text


def arrived(node: NodeProcess) -> list[Dataset]:
    return [dcmread(path) for path in sorted(node.objects.glob("*/*/*.dcm"))]


def key_file(folder: Path) -> Path:
    file = folder / "trial.key"
    file.write_text("the secret of this project\n")
    return file


@BOTH
def test_a_ct_goes_to_another_pacs_with_the_numbers_that_it_expects(
    start_node: StartNode, index_url: str | None, tmp_path: Path
) -> None:
    pacs = start_node("pacs", flags=["--aet", "PACS"])
    text = (
        example(
            "CT to another PACS",
            host='"127.0.0.1"',
            port=pacs.port,
            quiet_s="1",
            calling_ae_title='"*"',
        )
        .replace('"CT2"]', "")
        .replace('"*" ', '"*"')
        .replace('hours = ["20:00-06:00"]', "")  # the test runs by day, too
    )
    assert "hours" not in text
    node = start_node(configuration=of_index(index_url, tmp_path / "objects") + text)
    files = of_study(tmp_path / "sent", 3, InstitutionName="South")
    other = made(tmp_path / "other", Modality="MR")
    assert store(node.port, *files, other) == [0x0000] * 4
    wait_until(lambda: here(pacs) == names(files), lambda: node.tail)
    for dataset in arrived(pacs):
        assert (dataset.InstitutionName, dataset.IssuerOfPatientID) == ("North Hospital", "NORTH")
        (original,) = dataset.OriginalAttributesSequence
        assert original.ModifiedAttributesSequence[0].InstitutionName == "South"
        assert original.ModifyingSystem == "LFSCP"
    if index_url is None:  # else the objects are in a folder that the nodes share
        stored = [each for each in arrived(node) if each.Modality == "CT"]
        assert {each.InstitutionName for each in stored} == {"South"}


def test_a_trial_gets_studies_without_the_people_by_stow(
    start_node: StartNode, tmp_path: Path
) -> None:
    if not orthancs.PROGRAM.exists() or not orthancs.DICOMWEB.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    password = tmp_path / "trial.password"
    password.write_text("secret\n")
    with orthancs.orthanc_dicomweb(tmp_path / "orthanc", "north", "secret") as url:
        text = example(
            "Research: de-identified, by STOW-RS",
            url=f'"{url}"',
            password_file=f'"{password}"',
            key_file=f'"{key_file(tmp_path)}"',
        ).replace('on = "study"', 'on = "study"\nquiet_s = 1')
        node = start_node(configuration=text)
        files = of_study(tmp_path / "sent", 2, StudyDescription="TRIAL 7", PatientName="Doe^Jane")
        screen = of_study(
            tmp_path / "screen", 1, StudyDescription="TRIAL 7", BurnedInAnnotation="YES"
        )
        assert store(node.port, *files, *screen) == [0x0000] * 3
        config = tmp_path / "node/lfscp.toml"
        wait_until(
            lambda: [(q["sent"], q["given_up"]) for q in queues(config, node.data_dir)] == [(2, 1)],
            lambda: node.tail,
        )
        (queue,) = queues(config, node.data_dir)
        assert queue["given_up_reason"].startswith("held back: text may be burned into its pixels")
        at = ("--config", config, "--data-dir", node.data_dir)
        assert "held back" in run_lfscp("route", "list", *at).stdout
        found = run_lfscp(
            *("find", url, "--user", "north", "-k", "PatientName", "-k", "PatientIdentityRemoved"),
            *("--level", "STUDY", "--json"),
            env={"LFSCP_PEER_PASSWORD": "secret"},
        ).stdout
        assert "ANON" in found
        assert "Doe" not in found
        assert len([line for line in found.splitlines() if line.strip()]) == 1  # one study


@BOTH
def test_a_model_gets_what_a_plug_in_lets_go(
    start_node: StartNode, index_url: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "for_model.py"
    file.write_text(blocks("A model, by a plug-in", "python")[0])
    model = start_node("model", flags=["--aet", "MODEL"])
    text = example(
        "A model, by a plug-in",
        files=f'["{file}"]',
        host='"127.0.0.1"',
        port=model.port,
        quiet_s="1",
    )
    node = start_node(configuration=of_index(index_url, tmp_path / "objects") + text)
    files = of_study(tmp_path / "sent", 2, BodyPartExamined="CHEST")
    study = {
        keyword: str(dcmread(files[0])[keyword].value)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
    }
    localizer = made(
        tmp_path / "sent",
        **study,
        BodyPartExamined="CHEST",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    assert store(node.port, *files, localizer) == [0x0000] * 3
    wait_until(lambda: here(model) == names(files), lambda: node.tail)
    assert {each.RequestedProcedureDescription for each in arrived(model)} == {"NODULES"}
    config = tmp_path / "node/lfscp.toml"
    wait_until(lambda: queues(config, node.data_dir)[0]["given_up"] == 1, lambda: node.tail)
    (queue,) = queues(config, node.data_dir)
    assert queue["given_up_reason"] == (
        "plug-in for_model refused: a localizer is nothing for the model"
    )
    again = ("--config", config, "--data-dir", node.data_dir)
    file.write_text(file.read_text().replace('"LOCALIZER" in', '"NOTHING" in'))
    node.reload((tmp_path / "node/lfscp.toml").read_text())
    assert run_lfscp("route", "retry", "to-the-model", "MODEL", *again).returncode == 0
    wait_until(lambda: here(model) == names([*files, localizer]), lambda: node.tail)


def test_changed_objects_do_not_go_round_and_their_new_uids_are_committed_to(
    start_node: StartNode, tmp_path: Path
) -> None:
    ports = {title: tools.free_port() for title in ("ONE", "TWO", "THREE")}
    peers = "".join(peer(*each) for each in ports.items())
    actions = [{"deidentify": {"key_file": str(key_file(tmp_path))}}]
    first = peers + route(to="TWO", actions=actions, commit=True)
    following = {"ONE": first, "TWO": peers + route(to="THREE"), "THREE": peers + route(to="ONE")}
    nodes = {
        title: start_node(
            title, configuration=configuration, flags=["--port", ports[title], "--aet", title]
        )
        for title, configuration in following.items()
    }
    file = made(tmp_path / "sent")
    assert store(nodes["ONE"].port, file) == [0x0000]
    one = nodes["ONE"]
    wait_until(lambda: len(here(one)) == 2, lambda: one.tail)  # what it made has come back
    one.wait_for("not sent on", reason="a route has made it, and it has come back")
    config = tmp_path / "ONE/lfscp.toml"
    wait_until(lambda: queues(config, one.data_dir)[0]["waiting"] == 0, lambda: one.tail)
    assert queues(config, one.data_dir)[0]["sent"] == 1  # the receiver has committed to it
    (made_uid,) = here(nodes["TWO"])
    assert here(nodes["THREE"]) == {made_uid}
    assert here(one) == names([file]) | {made_uid}


def test_a_plug_in_is_asked_before_a_route_sends_and_fails_for_a_while(
    start_node: StartNode, tmp_path: Path
) -> None:
    destination = start_node("destination", flags=["--aet", "DST"])
    flag = tmp_path / "broken"
    flag.touch()
    asked = plugin(
        tmp_path,
        "asked",
        f"""
        import os
        @hook
        def before_send(sending, node):
            if node.read(sending.sop_instance_uid).PatientID == "P2":
                return Refusal("not to " + sending.destination)
        @hook
        def route_action(dataset):
            if os.path.exists("{flag}"): raise ValueError(dataset.PatientID)
            dataset.StudyDescription = "changed"
        """,
    )
    node = start_node(
        configuration=f'[plugins]\nfiles = ["{asked}"]\n'
        + peer("DST", destination.port)
        + route(actions=[{"plugin": "asked"}]),
        errors_expected=True,
    )
    file, other = made(tmp_path / "sent"), made(tmp_path / "sent", PatientID="P2")
    assert store(node.port, file, other) == [0x0000] * 2
    node.wait_for("not sent, it is tried again later", reason="plug-in asked failed, see the log")
    node.wait_for("given up", reason="not to DST")
    assert here(destination) == set()
    flag.unlink()
    wait_until(lambda: here(destination) == names([file]), lambda: node.tail)
    assert arrived(destination)[0].StudyDescription == "changed"


@BOTH
def test_a_complete_study_is_told_once_by_all_processes_of_all_nodes(
    start_node: StartNode, index_url: str | None, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    file = plugin(
        tmp_path,
        "webhook",
        f"""
        @hook
        def study_complete(study, node):
            count = len(list(node.instances(study.study_uid)))
            with open("{heard}", "a") as file:
                file.write(f"{{study.study_uid}} {{count}}\\n")
        """,
    )
    configuration = of_index(index_url, tmp_path / "objects")
    configuration += f'[plugins]\nfiles = ["{file}"]\nstudy_quiet_s = 3600.0\n'
    nodes = [start_node(name, configuration=configuration, flags=["--workers", 2]) for name in "ab"]
    files = of_study(tmp_path / "sent", 4)
    receivers = nodes if index_url is not None else nodes[:1]
    for at, one in enumerate(files):
        assert store(receivers[at % len(receivers)].port, one) == [0x0000]
    study = str(dcmread(files[0]).StudyInstanceUID)
    for node in nodes:  # however long the stores have taken, only now it is complete
        node.reload(configuration.replace("3600.0", "1.0"))
    wait_until(heard.exists, lambda: nodes[0].tail)
    later = made(tmp_path / "sent", StudyInstanceUID=study)
    assert store(nodes[0].port, later) == [0x0000]
    wait_until(lambda: len(heard.read_text().splitlines()) == 2, lambda: nodes[0].tail)
    for node in nodes:
        assert node.stop() == 0
    assert heard.read_text().splitlines() == [f"{study} 4", f"{study} 5"]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"coerce": "none"}, "route.0.actions.0.coerce"),
        ({"deidentify": {"key_file": "/none"}}, "route.0.actions.0.deidentify.key_file"),
        ({"plugin": "none"}, "route.0.actions.0.plugin"),
    ],
)
def test_an_action_that_cannot_be_is_refused_at_the_start_with_its_file(
    tmp_path: Path, action: dict[str, Any], said: str
) -> None:
    config = tmp_path / "lfscp.toml"
    config.write_text(peer("DST", 104) + route(actions=[action]))
    refused = run_lfscp("serve", "--config", config, "--data-dir", tmp_path / "data", "--no-http")
    assert refused.returncode == 2, refused.stderr
    assert f"{config}: {said} = " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_command_line_says_what_actions_would_change(tmp_path: Path) -> None:
    config, at = tmp_path / "lfscp.toml", ("--data-dir", tmp_path / "data")
    (rule,) = (
        text.split("[[route]]")[0].split("[[coercion]]")[1]
        for text in blocks("CT to another PACS", "toml")
    )
    deidentify = {"deidentify": {"key_file": str(key_file(tmp_path))}}
    config.write_text(
        f"[[coercion]]{rule}"
        + peer("DST", 104)
        + route("plain", actions=[{"coerce": "for the other hospital"}, {"plugin": "none"}])
        + route("trial", actions=[deidentify], transfer_syntax="ImplicitVRLittleEndian")
    )
    file = made(tmp_path, InstitutionName="South")
    told = run_lfscp("route", "test", file, "--config", config, *at)
    assert told.stderr == ""
    assert told.stdout.splitlines() == [
        "plain: to DST, at once: there is no condition",
        "  coerce by for the other hospital",
        '    InstitutionName: "South" -> "North Hospital"',
        '    IssuerOfPatientID: absent -> "NORTH"',
        "  change by the plug-in none: it is not asked here",
        "trial: to DST, at once: there is no condition",
        "  deidentify: is not held back",
        "  send as Implicit VR Little Endian",
        "    transfer syntax: Explicit VR Little Endian -> Implicit VR Little Endian",
    ]
    screen = made(tmp_path, BurnedInAnnotation="YES")
    told = run_lfscp("route", "test", screen, "--config", config, *at)
    assert "  deidentify: does not go: held back: text may be burned" in told.stdout


def test_objects_are_compressed_for_those_who_take_it_and_else_not(
    start_node: StartNode, dcmtk: Any, tmp_path: Path
) -> None:
    takes = start_node("takes", flags=["--aet", "TAKES"])
    with tools.storescp(tmp_path / "plain", "+xi") as port:  # implicit VR only
        node = start_node(
            configuration=peer("TAKES", takes.port)
            + peer("PLAIN", port)
            + route("one", to="TAKES", transfer_syntax="JPEGLSLossless")
            + route("other", to="PLAIN", transfer_syntax="RLELossless")
        )
        file = made(tmp_path / "sent", PixelData=TWELVE_BITS)
        assert store(node.port, file) == [0x0000]
        wait_until(lambda: here(takes) == names([file]), lambda: node.tail)
        wait_until(lambda: any((tmp_path / "plain").iterdir()), lambda: node.tail)
        node.wait_for("sent on", route="other")
    (compressed,) = arrived(takes)
    (plain,) = tools.read_all(tmp_path / "plain")
    assert compressed.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    assert plain.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    pixels = dcmread(file).pixel_array
    assert (compressed.pixel_array == pixels).all()
    assert (plain.pixel_array == pixels).all()


def test_stow_gets_the_transfer_syntax_of_the_route(start_node: StartNode, tmp_path: Path) -> None:
    destination = start_node(
        "destination", flags=["--aet", "DST", "--http-port", (http := tools.free_port())]
    )
    web = f'\n[peers.WEB]\nurl = "http://127.0.0.1:{http}/dicom-web"\n'
    node = start_node(configuration=web + route(to="WEB", transfer_syntax="JPEG2000Lossless"))
    file = made(tmp_path / "sent", Rows=32, Columns=32, PixelData=TWELVE_BITS * 4)
    assert store(node.port, file) == [0x0000]
    wait_until(lambda: here(destination) == names([file]), lambda: node.tail)
    (found,) = arrived(destination)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    assert (found.pixel_array == dcmread(file).pixel_array).all()
