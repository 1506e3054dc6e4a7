"""Loads the templates, and formats values in them; everything is escaped, controls too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request

from lfscp import __version__
from lfscp.config.roles import Role
from lfscp.web.context import caller_of, web_of
from lfscp.web.security.access import NOBODY

if TYPE_CHECKING:
    from lfscp.jobs.model import Job
    from lfscp.jobs.peers.described import JobPeer

# Controls, and marks that turn the direction of all text behind them. U+FFFD shows where one was.
_UNSEEN: Final = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    - {ord(each) for each in "\t\n\r"},
    "\N{REPLACEMENT CHARACTER}",
)
_LINE_ENDS: Final = dict.fromkeys((0x0A, 0x0D))  # of which a field has none
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")


def templates(folder: Path) -> Jinja2Templates:
    """The templates of a folder; an undefined name is an error, not an empty text."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    of_values = (date, day, time, name, octets, amount, number, moment, when, duration)
    filters: tuple[Callable[..., Any], ...] = (*of_values, text, values, what, key)
    environment.filters.update({each.__name__: each for each in filters})
    environment.filters.update(peer_name=peer_name, peer_address=peer_address)
    environment.globals["version"] = __version__
    return Jinja2Templates(env=environment, context_processors=[_every_page])


def _shown(value: Any) -> Any:
    """A value as a page may show it: texts of peers and files do not change what is around them."""
    if isinstance(value, str) and not value.isprintable():
        return value.translate(_UNSEEN)
    return value


def in_field(value: str) -> str:
    """A text as it comes back from the field of a form that nobody has changed.

    It has no controls, as the page shows it, no ends of lines, and no spaces at its ends.
    """
    return str(_shown(value)).translate(_LINE_ENDS).strip()


def _every_page(request: Request) -> dict[str, Any]:
    web, caller = web_of(request), caller_of(request)
    return {
        "ohif": web.viewer.url(request, web.settings) if web.viewer is not None else "",
        "csrf_token": web.access.csrf_token(caller.session),
        "user": caller.session.user if caller.session else "",
        "must_log_in": web.access.needs_login and caller.name == NOBODY,
        "may_work": caller.role.may(Role.WORK),
        "may_administer": caller.role.may(Role.ADMIN),
        "ae_title": web.settings.server.ae_title,
    }


def key(row: Mapping[str, Any]) -> str:
    """The query of a link to a study or series, if several have its UID."""
    return f"?key={row['id']}" if row["shares_uid"] else ""


def date(value: str) -> str:
    """A DICOM date for people: 20240131 is 2024-01-31; other texts stay as they are."""
    if len(value) == 8 and value.isdigit():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


def day(value: str) -> Markup | str:
    """A DICOM date, which the browser then writes as its user does; other texts stay."""
    written = date(value)
    return (
        written if written == value else Markup('<time datetime="{0}">{0}</time>').format(written)
    )


def time(value: str) -> str:
    """A DICOM time for people: 093015.2 is 09:30."""
    return f"{value[:2]}:{value[2:4]}" if len(value) >= 4 and value[:4].isdigit() else value


def name(value: str) -> str:
    """A person name for people: DOE^JANE^^DR is DOE, JANE DR; other scripts follow in brackets.

    The ideographic and the phonetic group have no comma: Yamada^Tarou=山田^太郎=やまだ^たろう is
    Yamada, Tarou (山田 太郎, やまだ たろう). Semicolons join several names.

    Source: PS3.5 section 6.2.1.
    """
    return "; ".join(filter(None, map(_one_name, value.split("\\"))))


def _one_name(value: str) -> str:
    first, *others = value.split("=")
    written = [_group(first, ", "), *(_group(group, " ") for group in others)]
    written = [group for group in written if group]
    if not written:
        return ""
    return written[0] + (f" ({', '.join(written[1:])})" if written[1:] else "")


def _group(group: str, after_family: str) -> str:
    family, *others = [part.strip() for part in group.split("^")]
    rest = " ".join(part for part in others if part)
    return after_family.join(part for part in (family, rest) if part)


def values(value: object) -> list[str]:
    """The values of an attribute in a job's result, without empty ones.

    Several values are a list there, as `scu.identifiers.plain` makes it; a text is one value, in
    which a backslash may stand (VR LT, ST, UT).
    """
    return [each for each in _values(value) if each]


def text(value: object) -> str:
    """The values as one text, as received; empty if absent."""
    return "\\".join(_values(value))


def _values(value: object) -> list[str]:
    if value is None or isinstance(value, Undefined):
        return []
    found = value if isinstance(value, list | tuple) else [value]
    return ["" if each is None else str(each) for each in found]


def what(job: Job) -> str:
    """What a job is about, in a few words."""
    parameters = job.parameters
    named = [text(value) for value in (parameters.get("keys") or {}).values() if text(value)]
    named += [
        str(each) for key in ("studies", "series", "paths") for each in parameters.get(key) or []
    ]
    return ", ".join(named[:3]) + (" …" if len(named) > 3 else "")


def peer_name(peer: JobPeer) -> str:
    """The AE title or name of a job's peer."""
    from lfscp.jobs.peers.described import name_of  # slow to import

    return name_of(peer)


def peer_address(peer: JobPeer) -> str:
    """Where a job's peer is."""
    from lfscp.jobs.peers.described import address_of

    return address_of(peer)


def octets(count: float) -> str:
    """A number of bytes for people, in decimal units."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def amount(count: float) -> Markup:
    """A number of bytes, which the browser then writes as its user does."""
    return Markup('<data value="{}" data-unit="byte">{}</data>').format(int(count), octets(count))


def number(count: int) -> Markup:
    """A whole number, which the browser then writes as its user does."""
    return Markup('<data value="{}">{:,}</data>').format(count, count)


def when(value: object) -> Markup:
    """A time, which the browser then writes as its user does, in the user's time zone.

    Args:
        value: milliseconds since 1970, or ISO 8601 in UTC.
    """
    written = moment(value)
    if not written:
        return Markup()
    stamp = f"{written.replace(' ', 'T')}Z"
    return Markup('<time datetime="{}">{} UTC</time>').format(stamp, written)


def moment(value: object) -> str:
    """A time for people, in UTC: from milliseconds since 1970, or from ISO 8601."""
    if not value:
        return ""
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds")
    return str(value)[:19].replace("T", " ")


def duration(seconds: float) -> str:
    """A duration for people: 3725 is 1 h 2 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
