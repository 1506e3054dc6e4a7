"""Answers requests for frames, and for all pixel data of an instance (PS3.18 section 10.4.1).

Rules: frames are read by their offsets, in a bucket too. Uncompressed ones are
application/octet-stream in little endian. Compressed ones have the media type of their transfer
syntax; for application/octet-stream without a transfer syntax they are decoded, one at a time, as
the metadata of the instance describe them: in the same colours and planes. If nothing in Accept can
be made, that is an answer 406, never another type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from lfscp.archive.store.partial_dataset import TooManyPartsError, parts_of_large
from lfscp.dicomweb.media_types import is_video, media_type_of, today
from lfscp.dicomweb.multipart_writer import Bytes, MultipartWriter, Part
from lfscp.services.transcoding.decoded_frames import DecodedFrames, can_decode, size_of
from lfscp.services.transcoding.stored_frames import PIECE, StoredFrames
from lfscp.web.dicomweb.accept import Wanted, not_acceptable, wanted_forms
from lfscp.web.dicomweb.answering import Asked, Streamed, refusing
from lfscp.web.dicomweb.pieces import AT_ONCE, AtOnce, Spans, kept
from lfscp.web.dicomweb.retrieving.again import keep
from lfscp.web.dicomweb.retrieving.frame_forms import FrameForm, form_of
from lfscp.web.dicomweb.targets import Instance, instance_of
from lfscp.web.problems import Problem
from lfscp.web.security.sent_files import FileSpan, sent_files

_FEW: Final = 8  # frames, found one by one in a large object
MAX_FRAMES: Final = 10_000  # that one request names
_SMALL: Final = 1 << 20  # bytes of an answer that is made before it is sent
_MAX_SPANS: Final = 1000  # of an answer; a frame in more fragments is put together
_LIST: Final = re.compile(r"[0-9]{1,9}(?:,[0-9]{1,9})*")


def frame_numbers(text: str) -> list[int]:
    """The frames of a list such as "1,2,3", counted from 0.

    Raises:
        Problem: it is no such list.
    """
    if not _LIST.fullmatch(text):
        raise Problem(HTTPStatus.BAD_REQUEST, "frames are a list of numbers such as 1,2,3")
    numbers = [int(each) - 1 for each in text.split(",")]
    if len(numbers) > MAX_FRAMES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"a request names at most {MAX_FRAMES} frames")
    if min(numbers) < 0:
        raise Problem(HTTPStatus.BAD_REQUEST, "frames are counted from 1")
    return numbers


def frames(asked: Asked) -> Response:
    """Some frames of an instance."""
    numbers = frame_numbers(asked.path["frames"])
    wanted = wanted_forms(asked.request)
    instance = instance_of(asked)
    with refusing("the frames cannot be read"), ExitStack() as opened:
        stored = _in_parts(instance, numbers) or _open(instance, opened)
        for number in numbers:
            stored.require(number)
        is_single = len(numbers) == 1
        form = _form(wanted, stored, is_single=is_single)
        headers = asked.require_changed(f"{instance.version}|{numbers}|{form}")
        answer = _answer(asked, _Frames(asked, stored, numbers, form), headers, opened)
        if isinstance(answer, AtOnce):
            keep(asked, instance, answer, headers["ETag"])
        return answer


def pixel_data(asked: Asked) -> Response:
    """All pixel data of an instance: uncompressed in one part, else each frame in a part."""
    wanted = wanted_forms(asked.request)
    instance = instance_of(asked)
    with refusing("the pixel data cannot be read"), ExitStack() as opened:
        stored = _open(instance, opened)
        in_one = not stored.is_compressed or is_video(instance.transfer_syntax_uid)
        count = 1 if in_one else stored.image.number_of_frames
        form = _form(wanted, stored, is_single=count == 1)
        headers = asked.require_changed(f"{instance.version}|pixeldata|{form}")
        content = _Frames(asked, stored, range(count), form, in_one=in_one)
        return _answer(asked, content, headers, opened)


def video(asked: Asked, instance: Instance, wanted: Sequence[Wanted]) -> Response:
    """The video of an instance, as it is stored."""
    own = media_type_of(instance.transfer_syntax_uid)
    found = next((each for each in wanted if Wanted(today(each.media_type)).takes(own)), None)
    if found is None:
        raise not_acceptable([own])
    headers = asked.require_changed(f"{instance.version}|video|{found.is_multipart}")
    with refusing("the video cannot be read"), ExitStack() as opened:
        pieces: Iterator[Bytes] = _open(instance, opened).all_pieces()
        content_type = own
        if found.is_multipart:
            writer = MultipartWriter(own)
            content_type, pieces = writer.content_type, writer.pieces([Part(own, pieces)])
        sent = kept(pieces, opened.pop_all())
        return Streamed(asked, sent, content_type, headers, what="a video")


def _form(wanted: Iterable[Wanted], stored: StoredFrames, *, is_single: bool) -> FrameForm:
    syntax, is_compressed = stored.transfer_syntax_uid, stored.is_compressed
    decodes = is_compressed and can_decode(syntax, stored.image)
    return form_of(
        wanted, syntax, is_compressed=is_compressed, decodes=decodes, is_single=is_single
    )


def _in_parts(instance: Instance, numbers: Sequence[int]) -> StoredFrames | None:
    """A few frames of a large object in a bucket, without the others; else None."""
    place = (instance.transfer_syntax_uid, instance.dataset_offset)
    parts = parts_of_large(instance.file, *place) if len(numbers) <= _FEW else None
    if parts is None:
        return None
    try:
        stored = StoredFrames(parts, *place)
        for number in numbers:
            stored.require(number)
        stored.have(numbers)
    except TooManyPartsError:
        return None
    return stored


def _open(instance: Instance, opened: ExitStack) -> StoredFrames:
    file = opened.enter_context(instance.open())
    return StoredFrames(file, instance.transfer_syntax_uid, instance.dataset_offset)


class _Frames:
    """The frames of one answer.

    Args:
        in_one: all pixel data is sent as one part, as it is stored.
    """

    def __init__(
        self,
        asked: Asked,
        stored: StoredFrames,
        numbers: Sequence[int],
        form: FrameForm,
        *,
        in_one: bool = False,
    ) -> None:
        self.numbers = numbers
        self.form = form
        self._in_one = in_one
        self._stored = stored
        self._few = len(numbers) <= _FEW
        self._decoded = None
        if form.decodes:
            self._decoded = DecodedFrames(stored.dataset, asked.look, owner=stored.key)

    @property
    def total(self) -> int | None:
        """Bytes of all, if they are few frames as they are stored."""
        if self.form.decodes or self._in_one or not self._few:
            return None
        return sum(map(self._stored.size_of, self.numbers))

    @property
    def size(self) -> int | None:
        """Bytes of the only frame, if that is known."""
        if self.form.decodes:
            return size_of(self._stored.image)
        return None if self._in_one else self._stored.size_of(self.numbers[0])

    def pieces(self, number: int) -> Iterator[bytes]:
        """The bytes of one frame."""
        if self._decoded is not None:
            return self._pieces_of_decoded(self._decoded, number)
        return self._stored.all_pieces() if self._in_one else self._stored.pieces(number)

    def _pieces_of_decoded(self, decoded: DecodedFrames, number: int) -> Iterator[bytes]:
        with decoded.frame(number, alone=self._few) as file:
            while piece := file.read(PIECE):
                yield piece

    def spliced(self, writer: MultipartWriter | None) -> tuple[Spans, bytes] | None:
        """The whole answer as bytes of the file, and what is behind the last; None if it is none.

        Args:
            writer: of its parts; None if it is one frame alone.
        Raises:
            OSError: the file cannot be read.
        """
        found: list[FileSpan] = []
        before = b""
        for number in self.numbers:
            in_file = self._stored.file_spans(number)
            if in_file is None:
                return None
            before += writer.head(Part(self.form.content_type, ())) if writer is not None else b""
            if len(found) + len(in_file[1]) > _MAX_SPANS:
                return None
            for begin, end in in_file[1]:
                found.append(FileSpan(in_file[0], begin, end - begin, before))
                found[-1].fetch()
                before = b""
            before += b"\r\n" if writer is not None else b""
        return tuple(found), before + writer.end if writer is not None else b""

    def parts(self) -> Iterator[Part]:
        """A part for each."""
        for number in self.numbers:
            yield Part(self.form.content_type, self.pieces(number))


def _answer(asked: Asked, content: _Frames, headers: dict[str, str], opened: ExitStack) -> Response:
    form = content.form
    writer = MultipartWriter(form.media_type) if form.is_multipart else None
    if writer is not None:
        content_type = writer.content_type
        pieces: Iterator[Bytes] = writer.pieces(content.parts())
        size = None
    else:
        content_type, pieces = form.content_type, content.pieces(content.numbers[0])
        size = content.size
    total = content.total
    if total is not None and total <= AT_ONCE and sent_files(asked.request.scope) is not None:
        spliced = content.spliced(writer)
        if spliced is not None:
            return AtOnce.made(*spliced, content_type, headers, opened.pop_all())
    if total is not None and total <= _SMALL:
        return Response(b"".join(pieces), media_type=content_type, headers=headers)
    sent = kept(pieces, opened.pop_all())
    return Streamed(asked, sent, content_type, headers, what="frames", size=size)
