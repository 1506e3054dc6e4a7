"""The action `plugin`: lets a plug-in change an object, by its hook `route_action`.

Rules: the plug-in gets the whole object, of which large values are read when it looks at them.
Pixels that it has not touched are copied from file to file, byte by byte. If it fails or takes too
long, the object is tried again later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from lfscp.archive.store.received_objects import StoredInstance, mapped
from lfscp.dicom.encoding.deflate import deflate
from lfscp.dicom.encoding.elements import skip_undefined
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.image_pixel import read_pixel_element
from lfscp.dicom.reading.header import DEFLATED, encoding_of, is_uid
from lfscp.plugins.errors import PluginError, PluginRefusalError
from lfscp.routing.actions.action import (
    ActionError,
    ActionPlugins,
    ActionSettingError,
    Means,
    OnTheWay,
    ReadyAction,
)
from lfscp.routing.actions.changed_file import changed_file

if TYPE_CHECKING:
    from lfscp.config import Settings

_LATER_BYTES: Final = 1 << 20  # of a value that is read when somebody looks at it
_LONG_VRS: Final = frozenset({b"OB", b"OW", b"UN"})


def read(value: Any, _settings: Settings) -> PluginAction:
    """The action of `{ plugin = "NAME" }`; whether there is such a plug-in is asked elsewhere."""
    if not isinstance(value, str) or not value:
        raise ActionSettingError((), value, "the name of a plug-in")
    return PluginAction(value)


@dataclass(frozen=True, slots=True)
class PluginAction:
    """Lets one plug-in change each object."""

    name: str

    @property
    def words(self) -> str:
        """See `Action`."""
        return f"change by the plug-in {self.name}"

    def ready(self, means: Means) -> ReadyAction:
        """See `Action`."""
        plugins, name = means.plugins, self.name

        @contextmanager
        def apply(instance: StoredInstance, way: OnTheWay) -> Iterator[StoredInstance]:
            if plugins is None:
                raise ActionError(f"plug-in {name} is not asked here", is_temporary=True)
            given = _read(instance)
            untouched = given.get_item(PIXEL_DATA, keep_deferred=True)
            changed = _asked(plugins, name, given)
            syntax = _syntax_of(changed, instance)
            with _encoded(name, changed, untouched, instance, syntax) as pieces:
                uids = tuple(_uid(name, changed, keyword) for keyword in _UIDS)
                sop_class = _uid(name, changed, "SOPClassUID")
                with changed_file(
                    instance, way.folder, (uids[0], uids[1], uids[2]), syntax, pieces, sop_class
                ) as made:
                    yield made

        return apply


_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def _read(instance: StoredInstance) -> Dataset:
    try:
        return dcmread(os.fspath(instance.path), defer_size=_LATER_BYTES)
    except OSError:
        raise
    except Exception as error:  # whatever pydicom makes of a broken object
        raise ActionError("the object cannot be read") from error


def _asked(plugins: ActionPlugins, name: str, dataset: Dataset) -> Dataset:
    try:
        return plugins.apply_action(name, dataset)
    except PluginRefusalError as error:
        reason = f"plug-in {name} refused: {error.reason}"
        raise ActionError(reason, is_temporary=error.is_temporary) from None
    except PluginError as error:
        raise ActionError(error.reason, is_temporary=True) from None


def _syntax_of(changed: Dataset, instance: StoredInstance) -> str:
    """The transfer syntax, which a plug-in may have changed with the pixels."""
    meta = getattr(changed, "file_meta", None)
    return str(getattr(meta, "TransferSyntaxUID", "") or instance.transfer_syntax_uid)


def _uid(name: str, dataset: Dataset, keyword: str) -> str:
    uid = str(dataset.get(keyword, ""))
    if not is_uid(uid):
        raise ActionError(f"plug-in {name} left the object without a valid {keyword}")
    return uid


@contextmanager
def _encoded(
    name: str, changed: Dataset, untouched: Any, instance: StoredInstance, syntax: str
) -> Iterator[list[bytes | memoryview]]:
    """The pieces of a changed dataset; pixels that nobody touched are a slice of the file."""
    is_large = isinstance(untouched, RawDataElement) and untouched.value is None
    is_same = changed.get_item(PIXEL_DATA, keep_deferred=True) is untouched
    if not (is_large and is_same and syntax == instance.transfer_syntax_uid):
        whole = _written(name, changed, syntax)
        yield [deflate(whole) if syntax in DEFLATED else whole]
        return
    before = _written(name, changed[:PIXEL_DATA], syntax)
    after = _written(name, changed[PIXEL_DATA + 1 :], syntax)
    with (
        instance.path.open("rb") as file,
        mapped(file.fileno(), instance.dataset_offset) as dataset,
    ):
        yield [before, _pixel_element(dataset, syntax), after]


def _written(name: str, dataset: Dataset, syntax: str) -> bytes:
    uid = UID(syntax)
    try:
        buffer = DicomBytesIO()
        buffer.is_implicit_VR = uid.is_implicit_VR
        buffer.is_little_endian = uid.is_little_endian
        write_dataset(buffer, dataset)
    except Exception as error:  # whatever the plug-in has put there
        raise ActionError(f"plug-in {name} left what cannot be written as DICOM") from error
    return buffer.getvalue()


def _pixel_element(dataset: memoryview, syntax: str) -> memoryview:
    """The whole element of the pixels."""
    encoding = encoding_of(syntax)
    element, _ = read_pixel_element(dataset, encoding)
    if element is None:
        raise ActionError("the object cannot be read")
    begin = element.begin - (12 if element.vr in _LONG_VRS else 8)
    end = element.end
    if element.is_encapsulated:
        end = skip_undefined(dataset, element.begin, len(dataset), encoding)
    return dataset[begin:end]
