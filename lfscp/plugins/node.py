"""The node as a plug-in sees it: its settings, a log, and the objects of the archive."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.errors import ArchiveError
from lfscp.dicom.values.attributes import Level
from lfscp.observe.logging import EventLogger, get_logger
from lfscp.plugins.events import StoredObject

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.archive.archive import Archive
    from lfscp.archive.store.received_objects import StoredInstance

LOG: Final = get_logger("lfscp.plugins")
_NO_ARCHIVE: Final = "the archive is not open yet"


class PluginNode:
    """What a plug-in may use of the node. Any thread may call any method.

    Args:
        plugin: the name of the plug-in.
        settings: its table [plugins.settings.NAME].
        ae_title: of the node.

    Attributes:
        log: writes into the node's log; every line names the plug-in. No patient data belongs
            there.
    """

    def __init__(
        self,
        plugin: str,
        settings: Mapping[str, Any],
        ae_title: str,
        archive: Archive | None = None,
    ) -> None:
        self.plugin = plugin
        self.settings = settings
        self.ae_title = ae_title
        self.log: EventLogger = LOG.bind(plugin=plugin)
        self._archive = archive

    @property
    def archive(self) -> Archive:
        """The archive itself; what a method here does not offer may change with any version."""
        if self._archive is None:
            raise ArchiveError("use the archive", _NO_ARCHIVE)
        return self._archive

    def instances(self, study_uid: str, series_uid: str = "") -> Iterator[StoredObject]:
        """The objects of a study, or of one of its series, in the order of their arrival.

        Raises:
            ArchiveError: the index cannot be read.
        """
        level, keys = Level.STUDY, {Level.STUDY: [study_uid]}
        if series_uid:
            level, keys = Level.SERIES, {**keys, Level.SERIES: [series_uid]}
        return map(_described, self.archive.select(level, keys))

    def read(self, sop_instance_uid: str, *, pixels: bool = True) -> Dataset:
        """Read an object of the archive.

        Args:
            pixels: with its pixel data.
        Raises:
            ArchiveError: there is none with this UID, or the index cannot be read.
            OSError: its file cannot be read.
        """
        from pydicom import dcmread

        found = self.archive.select(Level.IMAGE, {Level.IMAGE: [sop_instance_uid]})
        if not found:
            raise ArchiveError("read an object", f"there is no instance {sop_instance_uid}")
        with found[0].path.open("rb") as file:
            return dcmread(file, stop_before_pixels=not pixels)

    def store(self, dataset: Dataset) -> StoredObject:
        """Store an object, as if it had come by C-STORE from the node itself.

        The hooks `may_store` and `stored` of all plug-ins see it, this one's too.

        Args:
            dataset: with SOP Class, SOP Instance, Study and Series Instance UID. Its transfer
                syntax is that of `file_meta`; Explicit VR Little Endian without one.
        Raises:
            ArchiveError, DatasetError: it is refused, or cannot be stored.
        """
        from pydicom.uid import ExplicitVRLittleEndian
        from pynetdicom.dsutils import encode

        from lfscp.archive.store.received_objects import Received

        meta = getattr(dataset, "file_meta", None)
        syntax = getattr(meta, "TransferSyntaxUID", None) or ExplicitVRLittleEndian
        encoded = encode(
            dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
        if encoded is None:
            raise ArchiveError("store an object", "its dataset cannot be encoded")
        uids = (str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", "")))
        stored = self.archive.store(Received(*uids, str(syntax), self.ae_title, encoded))
        return StoredObject(
            *uids, stored.study_uid, stored.series_uid, str(syntax), self.ae_title, stored.size
        )


def _described(instance: StoredInstance) -> StoredObject:
    return StoredObject(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.study_uid,
        instance.series_uid,
        instance.transfer_syntax_uid,
        size=instance.size,
    )


def as_file(head: bytes, dataset: bytes | memoryview) -> io.BytesIO:
    """An encoded dataset in memory as a DICOM file."""
    return io.BytesIO(b"".join((head, dataset)))
