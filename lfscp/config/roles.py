"""The roles of those who use the page, the API and DICOMweb."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a login may do; each role includes the one before it."""

    READ = "read"  # look, search, download
    WORK = "work"  # upload, send, retrieve, jobs
    ADMIN = "admin"  # delete, protect, peers

    @property
    def rank(self) -> int:
        """The place among the roles."""
        return list(Role).index(self)

    def may(self, needed: Role) -> bool:
        """Whether this is the needed role or a higher one."""
        return self.rank >= needed.rank
