"""Answers again what was answered lately with bytes of one file, without waiting for anything.

Rules: the index is asked each time, and the file is looked at: if either says something else than
before, or the bytes are not in memory, the request is answered as if it were the first. So it is
for archives whose index and files are on disks of this machine: the rows that are asked for were
asked for before, and are in memory. Who sees a study for the first time is noted elsewhere.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from starlette.responses import Response

from lfscp.archive.errors import ArchiveError
from lfscp.web.dicomweb.answering import Asked
from lfscp.web.dicomweb.pieces import AtOnce, Spans
from lfscp.web.dicomweb.targets import HOW, Instance
from lfscp.web.known_answers import KnownAnswer, Question, Span
from lfscp.web.security.page_cache import is_in_memory
from lfscp.web.security.sent_files import FileSpan, sent_files


def again(asked: Asked) -> Response | None:
    """The answer of the last time; None if it has to be made anew.

    Raises:
        NotModified: the client has it already.
    """
    web = asked.web
    question = _question(asked)
    known = web.known_answers.get(question) if question is not None else None
    if known is None or sent_files(asked.request.scope) is None or not _is_as_before(asked, known):
        return None
    asked.require_other(known.tag)
    with ExitStack() as opened:
        spans = _spans(known, opened)
        return None if spans is None else AtOnce(spans, known.end, known.headers, opened.pop_all())


def keep(asked: Asked, instance: Instance, answer: AtOnce, tag: str) -> None:
    """Note an answer with bytes of the file of an instance, so that it can be given again."""
    question = _question(asked)
    if question is None or not answer.spans or not asked.web.archive.is_near:
        return
    known = KnownAnswer(
        instance.row,
        os.fspath(instance.file),
        _state_of(answer.spans[0].descriptor),
        [Span(each.offset, each.size, each.before) for each in answer.spans],
        answer.end,
        tuple(answer.raw_headers),
        tag,
        instance.study_key,
    )
    asked.web.known_answers.keep(question, known)


def _question(asked: Asked) -> Question | None:
    """What is asked; None if the query has a part in it."""
    scope = asked.request.scope
    if scope["query_string"]:
        return None
    accepted = b"\n".join(value for name, value in scope["headers"] if name == b"accept")
    return scope["path"], accepted


def _is_as_before(asked: Asked, known: KnownAnswer) -> bool:
    """Whether the index has the same row, and the caller is noted as one who sees the study."""
    path = asked.path
    try:
        row = asked.web.archive.index.lookups.instance_values(path["instance"])
    except ArchiveError:
        return False
    return row == known.row and asked.web.views.is_noted(path["study"], HOW, known.study_key)


def _spans(known: KnownAnswer, opened: ExitStack) -> Spans | None:
    """The bytes of the file, which is opened; None if it is another, or they are not in memory."""
    try:
        descriptor = os.open(known.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    opened.callback(os.close, descriptor)
    spans = tuple(FileSpan(descriptor, *each) for each in known.spans)
    if _state_of(descriptor) != known.state:
        return None
    are_near = all(is_in_memory(descriptor, each.offset, each.size) for each in spans)
    return spans if are_near else None


def _state_of(descriptor: int) -> tuple[int, ...]:
    """What changes when the content of a file does."""
    state = os.fstat(descriptor)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
