"""Answers requests for whole objects: of a study, of a series, or one (PS3.18 section 10.4.1).

Rules: objects go out one after another, each read or converted when its turn comes. If converting a
large one takes long, it goes out meanwhile; if it then fails, the answer breaks off. Without a
transfer syntax in Accept they are in Explicit VR Little Endian, decoded if they are compressed; a
video is never decoded. With `transfer-syntax=*` they go out as they are stored. If some cannot be
made, the others are answered with 206 and a warning; if none can, that is an answer 406.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import IO, Final

from pydicom.uid import UID
from starlette.responses import Response

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.values.attributes import Level
from lfscp.dicomweb.media_types import DICOM, ZIP
from lfscp.dicomweb.multipart_writer import Bytes, MultipartWriter, Part
from lfscp.jobs.file_sets.zipped import zipped
from lfscp.services.transcoding.ahead import MAX_AHEAD, Ahead, wanted_of
from lfscp.services.transcoding.ahead import Wanted as ToSend
from lfscp.services.transcoding.decoded_frames import can_decode
from lfscp.services.transcoding.decoding import TARGETS, needs_codec
from lfscp.services.transcoding.frames import PIXELS_ELSEWHERE
from lfscp.services.transcoding.growing_result import GrowingResult
from lfscp.upperlayer.scu.sending import FileSlice, Parts
from lfscp.web.actions.studies import still_there
from lfscp.web.dicomweb.accept import AS_STORED, Wanted, not_acceptable, wanted_forms
from lfscp.web.dicomweb.answering import Asked, Streamed, refusing
from lfscp.web.dicomweb.pieces import GATHERED, Piece, Sent, spliced
from lfscp.web.dicomweb.targets import Target, target_of
from lfscp.web.dicomweb.warning_header import warning_headers
from lfscp.web.security.sent_files import FileSpan, sent_files

_NAME: Final = "{}.dcm"
_LONG: Final = 1 << 16  # bytes; a shorter one is read with others
_SPAN: Final = 1 << 20  # bytes of a file that are sent at a time


@dataclass(frozen=True, slots=True)
class ObjectForm:
    """How objects are sent.

    Args:
        transfer_syntax: of all, or AS_STORED.
    """

    media_type: str
    transfer_syntax: str
    is_multipart: bool

    def fits(self, stored: str) -> bool:
        """Whether objects that are stored like this can be sent so."""
        if self.transfer_syntax in (AS_STORED, stored):
            return True
        if self.transfer_syntax not in TARGETS or stored in PIXELS_ELSEWHERE:
            return False
        return not needs_codec(stored) or can_decode(stored)


def forms_of(wanted: Iterable[Wanted], *, is_single: bool) -> Iterator[ObjectForm]:
    """The forms that a client takes, best first.

    Args:
        is_single: whether it is one object, which needs no multipart answer.
    """
    for each in wanted:
        syntax = each.transfer_syntax or EXPLICIT_VR_LITTLE_ENDIAN
        if each.is_multipart is not False:
            if each.takes(DICOM):
                yield ObjectForm(DICOM, syntax, is_multipart=True)
        elif each.takes(DICOM) and is_single:
            yield ObjectForm(DICOM, syntax, is_multipart=False)
        elif each.media_type == ZIP:
            yield ObjectForm(ZIP, syntax, is_multipart=False)


def objects(asked: Asked) -> Response:
    """All objects of a study or of a series, or one."""
    wanted = wanted_forms(asked.request)
    return send_objects(asked, target_of(asked), wanted)


def send_objects(asked: Asked, target: Target, wanted: Sequence[Wanted]) -> Response:
    """The objects in the best form that the client takes.

    Raises:
        Problem: nothing that it takes can be made (406).
    """
    kinds = Counter(each.transfer_syntax_uid for each in target.instances)
    form = _best(wanted, kinds, is_single=target.level is Level.IMAGE)
    left_out = sum(count for syntax, count in kinds.items() if not form.fits(syntax))
    headers = asked.require_changed(f"{target.version}|{form}")
    status = HTTPStatus.OK
    if left_out:
        status = HTTPStatus.PARTIAL_CONTENT
        name = UID(form.transfer_syntax).name
        text = f"{left_out} of {len(target.instances)} objects cannot be made in {name}"
        headers |= warning_headers([f"{text}; transfer-syntax=* gives them as stored"])
    with refusing("the object cannot be sent"):
        pieces, content_type = _content(asked, target, form, headers)
        what = f"{target.level.lower()} {target.name}"
        return Streamed(asked, pieces, content_type, headers, what=what, status_code=status)


def _best(wanted: Iterable[Wanted], kinds: Iterable[str], *, is_single: bool) -> ObjectForm:
    for form in forms_of(wanted, is_single=is_single):
        if any(map(form.fits, kinds)):
            return form
    syntaxes = " or ".join(dict.fromkeys((EXPLICIT_VR_LITTLE_ENDIAN, *kinds)))
    raise not_acceptable([f"{DICOM} and {ZIP}, transfer-syntax={syntaxes}"])


def _content(
    asked: Asked, target: Target, form: ObjectForm, headers: dict[str, str]
) -> tuple[Generator[Sent, None, None], str]:
    """The pieces of the answer, and its Content-Type."""
    sent = (each for each in target.instances if form.fits(each.transfer_syntax_uid))
    sending = _Sending(asked, form)
    if form.media_type == ZIP:
        headers["Content-Disposition"] = f'attachment; filename="{target.name}.zip"'
        return zipped(sending.named(sent)), ZIP
    if form.is_multipart:
        writer = MultipartWriter(DICOM)
        return spliced(sending.parts(writer, sent), sending.files), writer.content_type
    only = next(sent)
    headers["Content-Disposition"] = f'attachment; filename="{_NAME.format(target.name)}"'
    return spliced(sending.only(only), sending.files), _content_type(only, form)


class _Sending:
    """Sends objects one after another.

    Attributes:
        files: those that are sent as they are, to be closed afterwards.
    """

    def __init__(self, asked: Asked, form: ObjectForm) -> None:
        self.files: list[IO[bytes]] = []
        self._asked = asked
        self._form = form

    def only(self, instance: StoredInstance) -> Iterator[Piece]:
        """One object."""
        with closing(Ahead(self._asked)) as ahead:
            yield from _sent_pieces(self._asked, instance, self._form, self.files, ahead)

    def parts(self, writer: MultipartWriter, sent: Iterable[StoredInstance]) -> Iterator[Piece]:
        """A part for each object."""
        with closing(Ahead(self._asked)) as ahead:
            for each in self._prepared(sent, ahead):
                yield writer.head(Part(_content_type(each, self._form), ()))
                yield from _sent_pieces(self._asked, each, self._form, self.files, ahead)
                yield b"\r\n"
        yield writer.end

    def named(self, sent: Iterable[StoredInstance]) -> Iterator[tuple[str, Iterator[Bytes]]]:
        """Each object with its name in a ZIP."""
        with closing(Ahead(self._asked)) as ahead:
            for each in self._prepared(sent, ahead):
                name = _NAME.format(f"{each.series_uid}/{each.sop_instance_uid}")
                yield name, object_pieces(self._asked, each, self._form, ahead)

    def _prepared(self, sent: Iterable[StoredInstance], ahead: Ahead) -> Iterator[StoredInstance]:
        """The objects, while those that follow are converted."""
        web = self._asked.web
        if self._form.transfer_syntax == AS_STORED:
            yield from (still_there(web, each) for each in sent)
            return
        left = iter(sent)
        drawn = deque(islice(left, 1 + MAX_AHEAD))
        while drawn:
            ahead.prepare([_to_send(each, self._form) for each in drawn])
            yield still_there(web, drawn.popleft())
            drawn.extend(islice(left, 1))


def _to_send(instance: StoredInstance, form: ObjectForm) -> ToSend:
    return wanted_of(instance, _syntax_of(instance, form.transfer_syntax))


def _content_type(instance: StoredInstance, form: ObjectForm) -> str:
    return f"{DICOM}; transfer-syntax={_syntax_of(instance, form.transfer_syntax)}"


def _syntax_of(instance: StoredInstance, wanted: str) -> str:
    return instance.transfer_syntax_uid if wanted == AS_STORED else wanted


def _sent_pieces(
    asked: Asked,
    instance: StoredInstance,
    form: ObjectForm,
    files: list[IO[bytes]],
    ahead: Ahead,
) -> Iterator[Piece]:
    """One object as a DICOM file; as spans of its file, if it is long and sent as it is stored.

    Args:
        files: gets its file, to be closed when it is sent.
    Raises:
        DecodingError, OSError, ArchiveError: as `object_pieces`.
    """
    is_as_stored = form.transfer_syntax in (AS_STORED, instance.transfer_syntax_uid)
    end = instance.dataset_offset + instance.size
    if not is_as_stored or end < _LONG or sent_files(asked.request.scope) is None:
        yield from object_pieces(asked, instance, form, ahead)
        return
    file = instance.path.open("rb")
    files.append(file)
    for at in range(0, end, _SPAN):
        yield FileSpan(file.fileno(), at, min(_SPAN, end - at))


def object_pieces(
    asked: Asked, instance: StoredInstance, form: ObjectForm, ahead: Ahead
) -> Iterator[Bytes]:
    """One object as a DICOM file.

    Args:
        ahead: converts it, or has done so.
    Raises:
        DecodingError: it cannot be converted.
        OSError, ArchiveError: it cannot be read.
    """
    stored = instance.transfer_syntax_uid
    wanted = _syntax_of(instance, form.transfer_syntax)
    if wanted == stored:
        with instance.path.open("rb") as file:
            yield from _pieces_of(file.fileno(), 0, instance.dataset_offset + instance.size)
        return
    with ahead.begun(_to_send(instance, form), asked.look) as made:
        yield part10_header(instance.sop_class_uid, instance.sop_instance_uid, wanted)
        if isinstance(made, GrowingResult):
            yield from made.pieces(asked.look)
        else:
            yield from _pieces_of_body(made.body)


def _pieces_of_body(body: bytes | FileSlice | Parts) -> Iterator[bytes]:
    for part in body.parts if isinstance(body, Parts) else (body,):
        if not isinstance(part, FileSlice):
            yield bytes(part)
            continue
        with _opened(part) as descriptor:
            yield from _pieces_of(descriptor, part.offset, part.size)


@contextmanager
def _opened(part: FileSlice) -> Iterator[int]:
    descriptor = part.open()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _pieces_of(descriptor: int, at: int, size: int) -> Iterator[bytes]:
    """Raises OSError when there are fewer bytes."""
    end = at + size
    while at < end:
        piece = os.pread(descriptor, min(GATHERED, end - at), at)
        if not piece:
            raise OSError(f"the file is {end - at} bytes shorter than expected")
        at += len(piece)
        yield piece
