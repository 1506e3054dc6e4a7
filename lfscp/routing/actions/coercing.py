"""The action `coerce`: changes attributes by a `[[coercion]]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfscp.archive.arrival import header_of
from lfscp.archive.store.received_objects import StoredInstance, mapped
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import read_header
from lfscp.observe.logging import get_logger
from lfscp.routing.actions.action import (
    ActionError,
    ActionSettingError,
    Means,
    OnTheWay,
    ReadyAction,
)
from lfscp.routing.actions.changed_file import changed_file
from lfscp.rules.coercion.coercion import Coercion, coerce
from lfscp.rules.coercion.original_attributes import COERCE, Modification, moment
from lfscp.rules.conditions.attributes import subject_of

if TYPE_CHECKING:
    from lfscp.config import Settings

LOG = get_logger("lfscp.routing")


def read(value: Any, settings: Settings) -> CoerceAction:
    """The action of `{ coerce = "NAME" }`."""
    names = [each.name for each in settings.coercion]
    if value not in names:
        known = ", ".join(names) or "none is configured"
        raise ActionSettingError((), value, f"the name of a [[coercion]]; these are: {known}")
    return CoerceAction(value)


@dataclass(frozen=True, slots=True)
class CoerceAction:
    """Applies one coercion to the objects that it is for; the others stay as they are."""

    name: str

    @property
    def words(self) -> str:
        """See `Action`."""
        return f"coerce by {self.name}"

    def ready(self, means: Means) -> ReadyAction:
        """See `Action`."""
        coercion = means.coercions.get(self.name)
        if coercion is None:
            raise ActionSettingError((), self.name, "the name of a [[coercion]]")
        ae_title = means.ae_title

        @contextmanager
        def apply(instance: StoredInstance, way: OnTheWay) -> Iterator[StoredInstance]:
            try:
                with _coerced(coercion, ae_title, instance, way) as changed:
                    yield changed
            except DatasetError as error:
                raise ActionError(f"coercion {self.name}: {error.reason}") from None

        return apply


@contextmanager
def _coerced(
    coercion: Coercion, ae_title: str, instance: StoredInstance, way: OnTheWay
) -> Iterator[StoredInstance]:
    syntax = instance.transfer_syntax_uid
    with (
        instance.path.open("rb") as file,
        mapped(file.fileno(), instance.dataset_offset) as dataset,
    ):
        header = read_header(dataset, syntax)
        if not coercion.is_for(subject_of(header, syntax, lambda: dataset, way.origin)):
            yield instance
            return
        modification = Modification(ae_title, COERCE, moment(way.queued_at), way.origin)
        made = coerce(dataset, syntax, [coercion], modification)
        for note in made.notes:
            LOG.info("coerced with a note", sop_instance_uid=instance.sop_instance_uid, note=note)
        if made.pieces[0] is dataset:
            yield instance
            return
        uids = header_of(made, syntax).uids
        with changed_file(instance, way.folder, uids, syntax, made.pieces) as changed:
            yield changed
