"""Answers requests for rendered pictures and thumbnails (PS3.18 sections 10.4.1.1.3, 10.4.1.1.5).

Rules: the page's renderer draws. A study or series in multipart/related is a picture of each object
that has one; as a single part it is one picture that stands for all. An object of several frames is
its middle one, and as image/gif all of them, one after another. An object that holds a document,
such as a PDF, or a video is rendered as just that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import repeat
from typing import Final

from starlette.responses import Response

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicomweb.media_types import is_video
from lfscp.dicomweb.multipart_writer import Bytes, MultipartWriter, Part
from lfscp.services.transcoding.stored_frames import StoredFrames
from lfscp.web.actions.studies import still_there
from lfscp.web.dicomweb.accept import Wanted, not_acceptable, wanted_forms
from lfscp.web.dicomweb.answering import Asked, FileMissing, Streamed, refusing
from lfscp.web.dicomweb.pieces import AT_ONCE, AtOnce
from lfscp.web.dicomweb.retrieving.animation import DEFAULT_MS, animation
from lfscp.web.dicomweb.retrieving.bulk_data import document
from lfscp.web.dicomweb.retrieving.documents import document_type
from lfscp.web.dicomweb.retrieving.frames import MAX_FRAMES, frame_numbers, video
from lfscp.web.dicomweb.retrieving.rendering_parameters import Rendering, rendering_of
from lfscp.web.dicomweb.targets import Instance, Target, instance_of, target_of
from lfscp.web.imaging.errors import MissingFileError, NoPictureError
from lfscp.web.problems import Problem
from lfscp.web.rendering.pool import PictureRefusedError
from lfscp.web.rendering.renderer import MEDIA_TYPES, Rendered
from lfscp.web.rendering.renderer import Wanted as Picture
from lfscp.web.rendering.responses import no_picture
from lfscp.web.security.sent_files import FileSpan, sent_files

THUMBNAIL_EDGE: Final = 192
ANIMATED: Final = "gif"
_TRIED: Final = 5  # objects without a picture, until a study is said to have none
_ENCODINGS: Final = {media_type: encoding for encoding, media_type in MEDIA_TYPES.items()}


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How pictures are sent."""

    encoding: str
    is_multipart: bool

    @property
    def media_type(self) -> str:
        """Of each."""
        return MEDIA_TYPES[self.encoding]


def picture_form(
    wanted: Sequence[Wanted], *, may_be_single: bool = True, may_be_multipart: bool = True
) -> PictureForm:
    """The best form of a picture that the client takes.

    Raises:
        Problem: there is none (406).
    """
    for each in wanted:
        for media_type, encoding in _ENCODINGS.items():
            if not each.takes(media_type):
                continue
            if each.is_multipart and may_be_multipart:
                return PictureForm(encoding, is_multipart=True)
            if each.is_multipart is not True and may_be_single:
                return PictureForm(encoding, is_multipart=False)
            if each.is_multipart is None:
                return PictureForm(encoding, is_multipart=True)
    raise not_acceptable(list(_ENCODINGS))


def rendered(asked: Asked) -> Response:
    """The pictures of a study or series, or one that stands for them."""
    wanted, rendering = wanted_forms(asked.request), rendering_of(asked)
    target = target_of(asked)
    form = picture_form(wanted)
    headers = asked.require_changed(f"{target.version}|{form}|{rendering}") | rendering.warnings
    picture = replace(rendering.picture, encoding=form.encoding)
    if not form.is_multipart:
        return _sent(asked, _standing_for(asked, target, picture), form.media_type, headers)
    writer = MultipartWriter(form.media_type)
    pieces = _all(asked, target, picture, writer)
    what = f"pictures of {target.level.lower()} {target.name}"
    return Streamed(asked, pieces, writer.content_type, headers, what=what)


def rendered_instance(asked: Asked) -> Response:
    """The picture of an instance: its middle frame if it has several; or its document or video."""
    wanted = wanted_forms(asked.request)
    instance = instance_of(asked)
    other = document_type(instance.sop_class_uid)
    if other:
        return document(asked, instance, wanted)
    if is_video(instance.transfer_syntax_uid):
        return video(asked, instance, wanted)
    rendering = rendering_of(asked)
    form = picture_form(wanted)
    if form.encoding == ANIMATED and not form.is_multipart:
        moving = _moving(asked, instance, rendering)
        if moving is not None:
            return moving
    return pictures_of(asked, instance, [None], wanted, rendering)


def _moving(asked: Asked, instance: Instance, rendering: Rendering) -> Response | None:
    """All frames of an instance as one picture; None if it has one frame."""
    uid = instance.sop_instance_uid
    try:
        described, _ = asked.web.renderer.describe(instance.file, uid)
    except NoPictureError as error:
        raise _refusal(error) from None
    if described.frames == 1:
        return None
    if described.frames > MAX_FRAMES:
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"{ANIMATED} of more than {MAX_FRAMES} frames")
    headers = asked.require_changed(f"{instance.version}|moving|{rendering}") | rendering.warnings
    picture = replace(rendering.picture, encoding=ANIMATED)
    drawn = (
        _drawn(asked, instance.file, uid, replace(picture, frame=number)).read()
        for number in range(described.frames)
    )
    times = described.times.each_ms or repeat(described.times.nominal_ms or DEFAULT_MS)
    pieces = _given(animation(drawn, times))
    return Streamed(asked, pieces, MEDIA_TYPES[ANIMATED], headers, what="a moving picture")


def _given(pieces: Iterator[bytes]) -> Generator[Bytes, None, None]:
    yield from pieces


def rendered_frames(asked: Asked) -> Response:
    """The pictures of some frames."""
    numbers = frame_numbers(asked.path["frames"])
    return pictures_of(
        asked, instance_of(asked), numbers, wanted_forms(asked.request), rendering_of(asked)
    )


def thumbnail(asked: Asked) -> Response:
    """A small picture of a study or series."""
    rendering = rendering_of(asked, edge=THUMBNAIL_EDGE)
    form = picture_form(wanted_forms(asked.request), may_be_multipart=False)
    target = target_of(asked)
    headers = asked.require_changed(f"{target.version}|{form}|{rendering}") | rendering.warnings
    picture = replace(rendering.picture, encoding=form.encoding, frame=None)
    return _sent(asked, _standing_for(asked, target, picture), form.media_type, headers)


def thumbnail_of_instance(asked: Asked) -> Response:
    """A small picture of an instance."""
    return _thumbnail(asked, None)


def thumbnail_of_frames(asked: Asked) -> Response:
    """A small picture of the first of some frames."""
    return _thumbnail(asked, frame_numbers(asked.path["frames"])[0])


def _thumbnail(asked: Asked, number: int | None) -> Response:
    rendering = rendering_of(asked, edge=THUMBNAIL_EDGE)
    wanted = [each for each in wanted_forms(asked.request) if each.is_multipart is not True]
    return pictures_of(asked, instance_of(asked), [number], wanted, rendering)


def pictures_of(
    asked: Asked,
    instance: Instance,
    numbers: Sequence[int | None],
    wanted: Sequence[Wanted],
    rendering: Rendering,
) -> Response:
    """The pictures of frames of an instance, counted from 0; None is the middle one.

    Raises:
        Problem: there is no such frame, or nothing in Accept can be made.
    """
    form = picture_form(wanted, may_be_single=len(numbers) == 1)
    with refusing("the object cannot be rendered"):
        _require(instance, [number for number in numbers if number is not None])
    headers = asked.require_changed(f"{instance.version}|{numbers}|{form}|{rendering}")
    headers |= rendering.warnings
    picture = replace(rendering.picture, encoding=form.encoding)
    drawn = (
        _drawn(asked, instance.file, instance.sop_instance_uid, replace(picture, frame=number))
        for number in numbers
    )
    if not form.is_multipart:
        return _sent(asked, next(drawn), form.media_type, headers)
    writer = MultipartWriter(form.media_type)
    pieces = _parts(writer, drawn)
    return Streamed(asked, pieces, writer.content_type, headers, what="rendered frames")


def _require(instance: Instance, numbers: Sequence[int]) -> None:
    if numbers:
        with ExitStack() as opened:
            file = opened.enter_context(instance.open())
            syntax, offset = instance.transfer_syntax_uid, instance.dataset_offset
            stored = StoredFrames(file, syntax, offset)
            for number in numbers:
                stored.require(number)


def _drawn(asked: Asked, file: StoredFile, uid: str, picture: Picture) -> Rendered:
    try:
        return asked.web.renderer.render(file, uid, picture)
    except NoPictureError as error:
        raise _refusal(error) from None


def _refusal(error: NoPictureError) -> Problem:
    if isinstance(error, MissingFileError):
        return FileMissing(HTTPStatus.NOT_ACCEPTABLE, str(error))
    return no_picture(error, HTTPStatus.NOT_ACCEPTABLE)


def _sent(asked: Asked, found: Rendered, media_type: str, headers: dict[str, str]) -> Response:
    if found.file is not None and found.size <= AT_ONCE and sent_files(asked.request.scope):
        with refusing("the picture cannot be read"), ExitStack() as opened:
            span = FileSpan(opened.enter_context(found.file).fileno(), 0, found.size)
            span.fetch()
            return AtOnce.made((span,), b"", media_type, headers, opened.pop_all())
    if found.is_small:
        return Response(found.read(), media_type=media_type, headers=headers)
    pieces = _pieces(found)
    return Streamed(asked, pieces, media_type, headers, what="a picture", size=found.size)


def _pieces(found: Rendered) -> Generator[Bytes, None, None]:
    yield from found.pieces()


def _parts(writer: MultipartWriter, drawn: Iterator[Rendered]) -> Generator[Bytes, None, None]:
    media_type = writer.root_type
    yield from writer.pieces(Part(media_type, each.pieces()) for each in drawn)


def _standing_for(asked: Asked, target: Target, picture: Picture) -> Rendered:
    """A picture of the middle object that has one, of a series or of a study.

    Raises:
        Problem: there is none.
    """
    tried: list[StoredInstance] = []
    error = Problem(HTTPStatus.NOT_ACCEPTABLE, "there is nothing to render")
    for each in _candidates(target.instances):
        if document_type(each.sop_class_uid) or is_video(each.transfer_syntax_uid):
            continue
        try:
            return _drawn(asked, each.path, each.sop_instance_uid, replace(picture, frame=None))
        except Problem as problem:
            if problem.status != HTTPStatus.NOT_ACCEPTABLE:
                raise
            error = problem
        tried.append(each)
        if len(tried) == _TRIED:
            break
    raise error


def _candidates(instances: Sequence[StoredInstance]) -> Iterator[StoredInstance]:
    """The middle object of each SOP class, in the order in which the classes came."""
    places: dict[str, list[int]] = {}
    for number, each in enumerate(instances):
        places.setdefault(each.sop_class_uid, []).append(number)
    return (instances[of_class[len(of_class) // 2]] for of_class in places.values())


def _all(
    asked: Asked, target: Target, picture: Picture, writer: MultipartWriter
) -> Generator[Bytes, None, None]:
    """A picture of each object that has one.

    Raises:
        Problem: none has.
    """
    yield from writer.pieces(_pictures(asked, target, picture))


def _pictures(asked: Asked, target: Target, picture: Picture) -> Iterator[Part]:
    count = 0
    for each in target.instances:
        try:
            found = _drawn_now(asked, each, replace(picture, frame=None))
        except PictureRefusedError as error:
            if not count:
                raise no_picture(error) from None
            raise
        except (NoPictureError, FileNotFoundError):
            continue
        count += 1
        yield Part(MEDIA_TYPES[picture.encoding], found.pieces())
    if not count:
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, "there is nothing to render")


def _drawn_now(asked: Asked, instance: StoredInstance, picture: Picture) -> Rendered:
    """The picture of an object that was selected a while ago, as it is in the archive now.

    Raises:
        NoPictureError: it has none.
        FileNotFoundError: it was deleted.
    """
    render, uid = asked.web.renderer.render, instance.sop_instance_uid
    try:
        return render(still_there(asked.web, instance).path, uid, picture)
    except MissingFileError:  # it was replaced just now
        return render(still_there(asked.web, instance).path, uid, picture)
