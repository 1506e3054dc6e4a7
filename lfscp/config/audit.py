"""The settings of the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from lfscp.config.checks import Amount, Bool, Count, Int
from lfscp.config.declaration import Section, setting


def _check_file(path: str) -> str:
    if path and (not Path(path).expanduser().is_absolute() or path.endswith("/")):
        raise ValueError(
            'empty, or the absolute path of a file, such as "/var/log/lfscp/audit.log"'
        )
    return str(Path(path).expanduser()) if path else ""


class Audit(Section):
    """The audit trail: who did what with whose data (PS3.15 A.5), with patients' identifiers."""

    enabled: Bool = setting(True, "Keep an audit trail.")
    file: Annotated[str, AfterValidator(_check_file)] = setting(
        "", "File of the audit trail. Empty means audit.log in data_dir."
    )
    format: Literal["json", "xml"] = setting(
        "json", "Each message is one line: JSON, or the XML of PS3.15 A.5.1."
    )
    durability: Literal["full", "os"] = setting(
        "os",
        "full: each message is on the disk before the node goes on. os: the operating system "
        "writes it soon after.",
    )
    when_failing: Literal["continue", "stop"] = setting(
        "continue",
        "What happens while the file cannot be written. continue: the node serves on, and "
        "messages wait in memory. stop: it also rejects new associations.",
    )
    max_mb: Count = setting(
        100,
        "Size at which the file is renamed to audit.log.1 and so on, in megabytes. 0 never "
        "renames it.",
    )
    keep: Int = setting(20, "How many renamed files are kept at least.", ge=1, le=10000)
    keep_days: Amount = setting(
        30.0,
        "Renamed files with records younger than this many days are kept as well, however many "
        "they are.",
    )
    same_per_minute: Count = setting(
        60,
        "How many equal records, or refusals of one kind to one address, are written within a "
        "minute. Further ones are counted, and one record says how many. 0 writes them all.",
    )

    queries_per_minute: Count = setting(
        300,
        "How many queries from one address are recorded in full within a minute. Of the next "
        "ones, ten times as many, only a short record is written, with the query's length and "
        "digest. The rest is counted. 0 records all of them in full.",
    )

    def path(self, data_dir: Path) -> Path:
        """The file, of a node with this data folder."""
        return Path(self.file) if self.file else data_dir / "audit.log"
