"""The action `deidentify`: takes out what tells whose an object is (PS3.15 annex E).

Rules: the key comes from a file and must be given. So the objects of a study stay together on all
nodes and after a restart, and an object that is sent twice is the same. What cannot be
de-identified for sure is put aside with its reason, and does not go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import DeidentificationRequestError, HeldBackError
from lfscp.deidentification.options import Option, options_named
from lfscp.deidentification.pixels.burned_in import read_device_rules
from lfscp.deidentification.pseudonyms import Pseudonyms
from lfscp.dicom.conversion.encoder import read_pieces
from lfscp.routing.actions.action import (
    ActionError,
    ActionSettingError,
    Means,
    OnTheWay,
    ReadyAction,
)
from lfscp.routing.actions.changed_file import changed_file
from lfscp.services.deidentifying import deidentified

if TYPE_CHECKING:
    from lfscp.config import Settings

_KEYS: Final = ("options", "key_file", "devices")


def read(value: Any, _settings: Settings) -> DeidentifyAction:
    """The action of `{ deidentify = { options = [...], key_file = "...", devices = "..." } }`."""
    if not isinstance(value, dict):
        raise ActionSettingError((), value, f"a table with {', '.join(_KEYS)}")
    for key in value:
        if key not in _KEYS:
            raise ActionSettingError((key,), value[key], f"one of the keys {', '.join(_KEYS)}")
    key_file = value.get("key_file")
    if not isinstance(key_file, str) or not key_file:
        expected = "the path of a file with the secret of the project, of 16 bytes or more"
        raise ActionSettingError(("key_file",), key_file or "", expected)
    devices = value.get("devices", "")
    if not isinstance(devices, str):
        raise ActionSettingError(("devices",), devices, "the path of a TOML file")
    return DeidentifyAction(_options(value.get("options", [])), key_file, devices)


def _options(names: Any) -> frozenset[Option]:
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise ActionSettingError(("options",), names, "a list of options")
    try:
        return options_named(names)
    except DeidentificationRequestError as error:
        raise ActionSettingError(("options",), list(names), f"options: {error.reason}") from None


@dataclass(frozen=True, slots=True)
class DeidentifyAction:
    """De-identifies each object.

    Args:
        key_file: has the secret of the project.
        devices: a file that says where devices burn text into images; empty for none.
    """

    options: frozenset[Option]
    key_file: str
    devices: str

    @property
    def words(self) -> str:
        """See `Action`."""
        return " ".join(["deidentify", *(f"with {name}" for name in sorted(self.options))])

    def ready(self, _means: Means) -> ReadyAction:
        """See `Action`."""
        deidentifier = Deidentifier(self.options, self._key(), self._devices())

        @contextmanager
        def apply(instance: StoredInstance, way: OnTheWay) -> Iterator[StoredInstance]:
            try:
                with _deidentified(deidentifier, instance, way) as changed:
                    yield changed
            except HeldBackError as error:
                raise ActionError(f"held back: {error.reason}") from None

        return apply

    def _key(self) -> bytes:
        path = ("key_file",)
        try:
            key = Path(self.key_file).read_bytes().rstrip(b"\r\n")
            Pseudonyms(key)
        except OSError as error:
            expected = f"a file that can be read: {error.strerror or error}"
            raise ActionSettingError(path, self.key_file, expected) from None
        except DeidentificationRequestError as error:
            raise ActionSettingError(path, self.key_file, f"a key: {error.reason}") from None
        return key

    def _devices(self) -> Any:
        if not self.devices:
            return ()
        try:
            return read_device_rules(Path(self.devices))
        except DeidentificationRequestError as error:
            expected = f"a file of devices: {error.reason}"
            raise ActionSettingError(("devices",), self.devices, expected) from None


@contextmanager
def _deidentified(
    deidentifier: Deidentifier, instance: StoredInstance, way: OnTheWay
) -> Iterator[StoredInstance]:
    syntax, offset = instance.transfer_syntax_uid, instance.dataset_offset
    with deidentified(deidentifier, instance.path, syntax, offset, way.look) as found:
        uids = found.study_instance_uid, found.series_instance_uid, found.sop_instance_uid
        pieces = read_pieces(found.dataset)
        syntax = found.transfer_syntax_uid
        with changed_file(instance, way.folder, uids, syntax, pieces) as changed:
            yield changed
