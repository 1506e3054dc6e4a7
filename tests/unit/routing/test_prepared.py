"""Actions change an object on its way out, and leave the stored one as it is."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.config import Settings
from lfscp.node.route_actions import means_of, require_plugins, require_ready
from lfscp.plugins.errors import PluginError, PluginRefusalError
from lfscp.routing.actions.action import ActionError, Means, OnTheWay
from lfscp.routing.errors import RouteError
from lfscp.routing.prepared import prepared
from lfscp.routing.reading import read_routes, ready_actions
from lfscp.scu.files import read_instance
from tests.support.sample_objects import made

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = b"sixteen bytes of a secret"


@pytest.fixture
def stored(tmp_path: Path) -> StoredInstance:
    return read_instance(made(tmp_path, StudyDescription="Before"), lambda _note: None)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "project.key"
    file.write_bytes(KEY + b"\n")
    return file


def content(instance: StoredInstance) -> bytes:
    with instance.path.open("rb") as file:
        return file.read()


def settings(*tables: Any, coercion: Any = (), **more: Any) -> Settings:
    route = {"name": "r", "send_to": ["A"], "actions": list(tables), **more}
    peers = {"A": {"host": "127.0.0.1", "port": 104}}
    document = {"peers": peers, "route": [route], "coercion": list(coercion)}
    return Settings.model_validate(document)


RENAME = {"name": "rename", "on_arrival": False, "set": {"StudyDescription": "After"}}
MR_ONLY = {**RENAME, "name": "mr", "when": {"Modality": "MR"}}


class Plugins:
    """Plug-ins whose action is a function."""

    def __init__(self, act: Callable[[Dataset], Dataset | None]) -> None:
        self._act = act

    def apply_action(self, _name: str, dataset: Dataset) -> Dataset:
        return self._act(dataset) or dataset


@contextmanager
def sent(
    instance: StoredInstance, folder: Path, of: Settings, plugins: Any = None
) -> Iterator[StoredInstance]:
    """The object as the route of some settings sends it."""
    routes = read_routes(of)
    made_ready = ready_actions(routes, means_of(of, plugins))["r"]
    with prepared(instance, made_ready, OnTheWay(folder, "SENDER", AT)) as changed:
        yield changed


def test_actions_are_done_in_their_order_and_say_the_same_each_time(
    stored: StoredInstance, tmp_path: Path
) -> None:
    again = {"name": "more", "replace": {"StudyDescription": {"pattern": "$", "by": " all"}}}
    wanted = settings({"coerce": "rename"}, {"coerce": "more"}, coercion=[RENAME, again])
    before, found = content(stored), []
    for _ in range(2):
        with sent(stored, tmp_path, wanted) as changed:
            found.append(content(changed))
            dataset = dcmread(str(changed.path))
            assert len(found[-1]) == changed.dataset_offset + changed.size
        assert not changed.path.exists()
    assert found[0] == found[1]
    assert dataset.StudyDescription == "After all"
    assert dataset.PixelData == dcmread(str(stored.path)).PixelData
    first, second = dataset.OriginalAttributesSequence
    assert first.ModifiedAttributesSequence[0].StudyDescription == "Before"
    assert second.ModifiedAttributesSequence[0].StudyDescription == "After"
    assert first.SourceOfPreviousValues == "SENDER"
    assert content(stored) == before


def test_a_coercion_leaves_objects_alone_that_it_is_not_for(
    stored: StoredInstance, tmp_path: Path
) -> None:
    with sent(stored, tmp_path, settings({"coerce": "mr"}, coercion=[MR_ONLY])) as same:
        assert same is stored


def test_without_actions_the_stored_object_goes(stored: StoredInstance, tmp_path: Path) -> None:
    with sent(stored, tmp_path, settings()) as same:
        assert same is stored


def test_the_same_key_gives_the_same_object_without_the_person(
    stored: StoredInstance, tmp_path: Path, key_file: Path
) -> None:
    wanted = settings({"deidentify": {"key_file": str(key_file)}})
    found = []
    for _ in range(2):
        with sent(stored, tmp_path, wanted) as changed:
            found.append(content(changed))
            dataset = dcmread(str(changed.path))
            assert dataset.SOPInstanceUID == changed.sop_instance_uid != stored.sop_instance_uid
            assert dataset.StudyInstanceUID == changed.study_uid
    assert found[0] == found[1]
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.PixelData == dcmread(str(stored.path)).PixelData
    assert str(dcmread(str(stored.path)).PatientName).encode() not in found[0]


def test_what_cannot_be_deidentified_for_sure_does_not_go(tmp_path: Path, key_file: Path) -> None:
    screen = made(tmp_path, BurnedInAnnotation="YES")
    instance = read_instance(screen, lambda _note: None)
    wanted = settings({"deidentify": {"key_file": str(key_file)}})
    with pytest.raises(ActionError) as failed, sent(instance, tmp_path, wanted):
        pass
    assert failed.value.reason.startswith("held back: text may be burned into its pixels")
    assert not failed.value.is_temporary


def test_a_plug_in_changes_the_whole_object(stored: StoredInstance, tmp_path: Path) -> None:
    def act(dataset: Dataset) -> None:
        dataset.StudyDescription = "By a plug-in"
        dataset.SOPInstanceUID = "1.2.3"

    with sent(stored, tmp_path, settings({"plugin": "mine"}), Plugins(act)) as changed:
        dataset = dcmread(str(changed.path))
    assert (dataset.StudyDescription, changed.sop_instance_uid) == ("By a plug-in", "1.2.3")
    assert dataset.PixelData == dcmread(str(stored.path)).PixelData


@pytest.mark.parametrize("name", ["explicit", "implicit", "compressed"])
def test_pixels_that_a_plug_in_does_not_touch_are_copied_in_bounded_memory(
    tmp_path: Path, name: str
) -> None:
    large = _large(tmp_path, name)
    instance = read_instance(large, lambda _note: None)

    def act(dataset: Dataset) -> None:
        dataset.StudyDescription = "Changed"

    tracemalloc.start()
    try:
        with sent(instance, tmp_path, settings({"plugin": "mine"}), Plugins(act)) as changed:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            was, now = dcmread(large), dcmread(str(changed.path))
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    assert now.StudyDescription == "Changed"
    assert now.PixelData == was.PixelData
    was.StudyDescription = "Changed"
    assert now == was


def _large(folder: Path, name: str) -> Path:
    """An object with 20 MB of pixels."""
    source = {"explicit": "CT_small.dcm", "implicit": "MR_small_implicit.dcm"}
    dataset = dcmread(str(get_testdata_file(source.get(name, "MR_small_RLE.dcm"))))
    frames = 1 + 20_000_000 // len(dataset.PixelData)
    dataset.NumberOfFrames = frames
    if name == "compressed":
        from pydicom.encaps import encapsulate, get_frame

        frame = get_frame(dataset.PixelData, 0)
        dataset.PixelData = encapsulate([frame] * frames)
    else:
        dataset.PixelData = dataset.PixelData * frames
    file = folder / f"{name}.dcm"
    dataset.save_as(file)
    return file


@pytest.mark.parametrize(
    ("error", "is_temporary"),
    [
        (PluginError("x", "plug-in mine failed, see the log"), True),
        (PluginRefusalError("x", "not this one", is_temporary=False), False),
        (PluginRefusalError("x", "not now", is_temporary=True), True),
    ],
)
def test_a_plug_in_that_fails_or_refuses_keeps_the_object_here(
    stored: StoredInstance, tmp_path: Path, error: Exception, is_temporary: bool
) -> None:
    def act(_dataset: Dataset) -> None:
        raise error

    wanted = settings({"plugin": "mine"})
    with pytest.raises(ActionError) as failed, sent(stored, tmp_path, wanted, Plugins(act)):
        pass
    assert failed.value.is_temporary is is_temporary
    assert getattr(error, "reason", "") in failed.value.reason


@pytest.mark.parametrize("act", ["SOPInstanceUID", "broken"])
def test_a_plug_in_that_leaves_no_object_is_said(
    stored: StoredInstance, tmp_path: Path, act: str
) -> None:
    def ruin(dataset: Dataset) -> None:
        if act == "broken":
            with warnings.catch_warnings(action="ignore"):
                dataset.add_new(0x00280010, "US", "no number")
        else:
            del dataset[act]

    wanted = settings({"plugin": "mine"})
    with pytest.raises(ActionError) as failed, sent(stored, tmp_path, wanted, Plugins(ruin)):
        pass
    assert failed.value.reason.startswith("plug-in mine left")


def test_a_transfer_syntax_is_an_action_too(tmp_path: Path) -> None:
    file = Path(str(get_testdata_file("MR_small_RLE.dcm")))
    instance = read_instance(file, lambda _note: None)
    wanted = settings({"transfer_syntax": "ImplicitVRLittleEndian"})
    with sent(instance, tmp_path, wanted) as changed:
        dataset = dcmread(str(changed.path))
        assert (dataset.pixel_array == dcmread(file).pixel_array).all()
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("table", "path", "expected"),
    [
        ({"coerce": "other"}, ["coerce"], "the name of a [[coercion]]; these are: rename"),
        ({"deidentify": {}}, ["deidentify", "key_file"], "the path of a file with the secret"),
        ({"deidentify": {"key_file": "k", "x": 1}}, ["deidentify", "x"], "one of the keys"),
        (
            {"deidentify": {"key_file": "k", "options": ["retain-all"]}},
            ["deidentify", "options"],
            "options: there is no option retain-all; the options are retain-safe-private",
        ),
        ({"plugin": 3}, ["plugin"], "the name of a plug-in"),
        ({"transfer_syntax": "JPEG"}, ["transfer_syntax"], "one of ExplicitVRLittleEndian"),
        ({"fold": "x"}, [], "an action that is known; these are: coerce, deidentify, plugin"),
        ({"coerce": "rename", "plugin": "y"}, [], "a table with one action"),
        ({}, [], "a table with one action"),
    ],
)
def test_an_action_that_cannot_be_is_refused(
    table: dict[str, Any], path: list[str], expected: str
) -> None:
    with pytest.raises(RouteError) as refused:
        read_routes(settings(table, coercion=[RENAME]))
    assert refused.value.expected.startswith(expected)
    assert refused.value.path == ("route", "0", "actions", "0", *path)


def test_files_of_actions_are_read_at_the_start(tmp_path: Path, key_file: Path) -> None:
    from lfscp.config import ConfigError

    none = tmp_path / "none"
    with pytest.raises(ConfigError, match=r"route\.0\.actions\.0\.deidentify\.key_file .*none"):
        require_ready(settings({"deidentify": {"key_file": str(none)}}))
    short = tmp_path / "short"
    short.write_bytes(b"short")
    with pytest.raises(ConfigError, match="a key: the key has 5 bytes"):
        require_ready(settings({"deidentify": {"key_file": str(short)}}))
    wrong = {"key_file": str(key_file), "devices": str(none)}
    with pytest.raises(ConfigError, match=r"deidentify\.devices"):
        require_ready(settings({"deidentify": wrong}))
    with pytest.raises(ConfigError, match=r"route\.0\.actions\.0\.plugin = \"mine\": expected a"):
        require_plugins(settings({"plugin": "mine"}), [])


def test_nothing_is_done_without_means(stored: StoredInstance, tmp_path: Path) -> None:
    routes = read_routes(settings({"plugin": "mine"}))
    ready = ready_actions(routes, Means("HERE"))["r"]
    with pytest.raises(ActionError), prepared(stored, ready, OnTheWay(tmp_path, "", AT)):
        pass
