"""Makes the coercions that the settings declare, and reads their tables.

A node does it at its start and whenever it reads its configuration again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.config import ConfigError, Settings
from lfscp.config.sources import KeyPath, complaint
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.archive.arrival import Arrival
    from lfscp.rules.coercion.coercion import Coercion

LOG: Final = get_logger("lfscp.node")
_MAX_BYTES: Final = 64 << 20  # of a table


def coercions_of(
    settings: Settings, origin: Callable[[KeyPath], str] = lambda _: "configuration"
) -> Sequence[Coercion]:
    """All coercions, in order.

    Args:
        origin: gives the source of a setting, for the error.
    Raises:
        ConfigError: one cannot be; the line names source, key and what was expected.
    """
    if not settings.coercion:
        return ()
    from lfscp.rules.coercion.errors import CoercionError
    from lfscp.rules.coercion.reading import read_coercions

    try:
        return read_coercions(settings.coercion, _read_file)
    except CoercionError as error:
        line = complaint(origin(error.path), error.path, error.value, error.expected)
        raise ConfigError(line) from None


def arrival_of(settings: Settings) -> Arrival | None:
    """What is done with each object that comes in; None: it is stored as it is.

    Raises:
        ConfigError: as `coercions_of`.
    """
    coercions = [each for each in coercions_of(settings) if each.on_arrival]
    if not coercions:
        return None
    from lfscp.archive.arrival import Arrival

    return Arrival(coercions, settings.server.ae_title)


def renew_arrival(archive: Archive, settings: Settings) -> None:
    """Give a running archive the coercions of settings that were read again."""
    try:
        archive.arrival = arrival_of(settings)
    except ConfigError as error:  # a table that was replaced since it was tried
        LOG.error("coercions not reloaded, the old ones stay", reason=str(error))  # noqa: TRY400 - one line


def _read_file(name: str) -> str:
    path = Path(name)
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"a file of at most {_MAX_BYTES >> 20} MB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("a file in UTF-8") from None
