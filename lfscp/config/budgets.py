"""The settings of budgets: the memory and work that others may take."""

from __future__ import annotations

from lfscp.config.checks import Int
from lfscp.config.declaration import Section, setting


class Budgets(Section):
    """Memory and work that clients, peers and files may take. What needs more is refused."""

    request_mb: Int = setting(
        1,
        "Largest data set of a request other than C-STORE, in megabytes. If one is larger, the "
        "node aborts the association. Requests with a list of images have workflow_mb.",
        ge=1,
        le=1024,
        live=True,
    )
    workflow_mb: Int = setting(
        16,
        "The same for a request of the modality workflow (N-CREATE, N-SET, N-ACTION), which may "
        "name each image of a study: a thousand of them are about 0.1 MB. A process works on one "
        "large request at a time.",
        ge=1,
        le=64,
        live=True,
    )
    key_values: Int = setting(
        10_000,
        "Most values in all keys of one query or retrieve. One with more is answered with "
        "0xA900. A name counts as 100 values, and so does a value with a wildcard.",
        ge=100,
        le=20_000,
    )
    decoding_mb: Int = setting(
        172,
        "Memory for decoding objects for receivers, in megabytes. All associations of a process"
        " share it, and the codecs' own memory counts. A frame that alone needs more is not "
        "decoded.",
        ge=1,
    )
    spool_mb: Int = setting(
        8192,
        "Disk space in the data folder for converted objects that receivers have not taken yet,"
        " in megabytes. All associations of a process share it.",
        ge=1,
    )
    rendering_mb: Int = setting(
        190,
        "Memory of all processes that render pictures for the page, in megabytes. A picture "
        "that needs more is made smaller, or answered with HTTP 422.",
        ge=64,
    )
    job_mb: Int = setting(
        8,
        "Most of a peer's matches that one job keeps, in megabytes. Beyond it a query is cut "
        "off, and a retrieve fails.",
        ge=1,
    )
