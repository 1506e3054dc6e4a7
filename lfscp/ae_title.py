"""What an AE title may be.

It stands below everything else and imports nothing, so that a command that runs for a moment need
not load the settings to check the title of a peer.
"""

from __future__ import annotations


def validate_ae_title(title: object) -> str:
    """Check one AE title and strip its insignificant spaces.

    Raises:
        ValueError: not 1 to 16 characters of the default repertoire, or backslash or control in it.
    Source: PS3.5 table 6.2-1, VR AE.
    """
    if not isinstance(title, str):
        raise ValueError("an AE title in quotes")  # noqa: TRY004 - pydantic reports only ValueError
    stripped = title.strip(" ")
    well_formed = stripped.isascii() and stripped.isprintable() and "\\" not in stripped
    if not 1 <= len(stripped) <= 16 or not well_formed:
        raise ValueError(
            "an AE title of 1 to 16 ASCII characters without backslash or control characters"
        )
    return stripped
