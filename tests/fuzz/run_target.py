"""Fuzzes one target with atheris, for a number of runs or for some minutes.

    python tests/fuzz/run_target.py TARGET CORPUS [libFuzzer's options]

The corpus is a folder: the target's seeds are put there first, and what reaches new code is added.
A crash is written to the working folder; give its file instead of options to run it again.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
MAX_INPUT = 8192
SLOW_S = 20  # an input that takes so long is a finding
MAX_MB = 2048

with atheris.instrument_imports(
    include=[
        *("lfscp.archive", "lfscp.deidentification", "lfscp.services", "lfscp.upperlayer"),
        "lfscp.scu",
    ]
):
    from lfscp.observe.logging import set_level
    from tests.fuzz.targets import TARGETS


def fuzz(name: str, corpus: str, options: list[str]) -> None:
    """Fuzz until the options, or a crash, say stop; this ends the process."""
    warnings.simplefilter("ignore")  # pydicom warns of what it is given; a node logs that as debug
    if name == "identifier":
        set_level("critical")  # a line for each request would take longer than its answer
    target, folder = TARGETS[name], Path(corpus)
    if folder.is_file():
        target.run(folder.read_bytes())
        print(f"{folder} does no harm to {name}")  # noqa: T201 - what it is run for
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number:03}").write_bytes(seed)
    limits = [
        f"-max_len={MAX_INPUT}",
        f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MAX_MB}",
        f"-artifact_prefix={os.getcwd()}/",  # noqa: PTH109 - a prefix, no path
    ]
    atheris.Setup([sys.argv[0], *limits, *options, str(folder)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(sys.argv[1], sys.argv[2], sys.argv[3:])
