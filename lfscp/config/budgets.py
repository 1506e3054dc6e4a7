"""The settings of what a node spends at most on what others send or ask: the one place of them."""

from __future__ import annotations

from lfscp.config.checks import Int
from lfscp.config.declaration import Section, setting


class Budgets(Section):
    """Memory and work that clients, peers and files may take; what needs more is refused."""

    request_mb: Int = setting(
        1,
        "Largest data set of a request other than C-STORE, in megabytes; for a larger one the "
        "association is aborted.",
        ge=1,
        le=1024,
        live=True,
    )
    key_values: Int = setting(
        10_000,
        "Most values in all keys of a query or retrieve; one with more is answered with 0xA900. "
        "A name and a value with a wildcard count as 100.",
        ge=100,
        le=20_000,
    )
    decoding_mb: Int = setting(
        172,
        "Memory for decoding objects for receivers, of all associations of a process together, in "
        "megabytes, with what codecs work on; a frame that alone needs more is not decoded.",
        ge=1,
    )
    spool_mb: Int = setting(
        8192,
        "Disk in the data folder for converted objects until receivers have taken them, of all "
        "associations of a process together, in megabytes.",
        ge=1,
    )
    rendering_mb: Int = setting(
        190,
        "Memory of the processes that render pictures for the page, all together, in megabytes; a "
        "picture that needs more is made smaller, or answered with HTTP 422.",
        ge=64,
    )
    job_mb: Int = setting(
        8,
        "Most bytes of a peer's matches that one job keeps, in megabytes; a query is cut there, a "
        "retrieve fails.",
        ge=1,
    )
