"""Actions change an object on its way out, and leave the stored one as it is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.config import Settings
from lfscp.routing import actions
from lfscp.routing.errors import RouteError
from lfscp.routing.prepared import ActionError, prepared
from lfscp.routing.reading import read_routes
from lfscp.scu.files import read_instance
from tests.support.sample_objects import made


@pytest.fixture
def stored(tmp_path: Path) -> StoredInstance:
    return read_instance(made(tmp_path, StudyDescription="Before"), lambda _note: None)


def describe(value: Any, _settings: object) -> actions.Action:
    if not isinstance(value, str):
        raise ValueError("a text")

    def change(dataset: Dataset) -> Dataset:
        dataset.StudyDescription += value
        return dataset

    return change


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "_readers", {})
    monkeypatch.setattr(actions, "_new_uids", set())
    actions.register("describe", describe)
    actions.register("rename", describe, keeps_uids=False)


def content(instance: StoredInstance) -> bytes:
    with instance.path.open("rb") as file:
        return file.read()


def settings(*tables: Any, **more: Any) -> Settings:
    route = {"name": "r", "send_to": ["A"], "actions": list(tables), **more}
    peers = {"A": {"host": "127.0.0.1", "port": 104}}
    return Settings.model_validate({"peers": peers, "route": [route]})


@pytest.mark.usefixtures("described")
def test_actions_are_done_in_their_order(stored: StoredInstance, tmp_path: Path) -> None:
    (route,) = read_routes(settings({"describe": " one"}, {"describe": " two"}))
    before = content(stored)
    with prepared(stored, route.actions, tmp_path) as changed:
        with changed.path.open("rb") as file:
            sent = dcmread(file)
        assert sent.StudyDescription == "Before one two"
        assert sent.PixelData == dcmread(BytesIO(before)).PixelData
        assert changed.sop_instance_uid == stored.sop_instance_uid
        assert len(content(changed)) == changed.dataset_offset + changed.size
    assert not changed.path.exists()
    assert content(stored) == before


def test_without_actions_the_stored_object_goes(stored: StoredInstance, tmp_path: Path) -> None:
    with prepared(stored, (), tmp_path) as same:
        assert same is stored


@pytest.mark.usefixtures("described")
def test_an_action_that_fails_says_so(stored: StoredInstance, tmp_path: Path) -> None:
    def fail(dataset: Dataset) -> Dataset:
        raise KeyError(dataset.PatientID)

    with pytest.raises(ActionError) as failed, prepared(stored, (fail,), tmp_path):
        pass
    assert "P1" not in str(failed.value)


@pytest.mark.usefixtures("described")
def test_nobody_is_asked_to_commit_to_objects_under_other_uids() -> None:
    read_routes(settings({"describe": "x"}, commit=True))
    with pytest.raises(RouteError) as refused:
        read_routes(settings({"rename": "x"}, commit=True))
    assert refused.value.path == ("route", "0", "commit")


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"describe": 3}, "a text"),
        ({"fold": "x"}, "an action that is known; these are: describe, rename"),
        ({"describe": "x", "fold": "y"}, "a table with one action"),
        ({}, "a table with one action"),
    ],
)
def test_an_action_that_cannot_be_is_refused(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(RouteError) as refused:
        read_routes(settings(table))
    assert refused.value.expected == expected
    assert refused.value.path == ("route", "0", "actions", "0")


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_an_action_that_leaves_no_object_fails_as_one_object_does(
    stored: StoredInstance, tmp_path: Path, keyword: str
) -> None:
    def change(dataset: Dataset) -> Dataset:
        del dataset[keyword]
        return dataset

    with pytest.raises(ActionError), prepared(stored, [change], tmp_path):
        pass
