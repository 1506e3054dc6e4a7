"""cProfile of one association in the thread that serves it; see profile.md.

python scripts/bench/profile_association.py store --size 8 --count 2000
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import stages
from conversation import converse, node_in, socket_pair
from objects import Objects
from peers import dul

OPERATIONS = ("associate", "store", "echo", "find", "find-one")
_STUDIES = 500


def _work(operation: str, node: Any, size_kb: int, count: int) -> tuple[bytes, Iterable[bytes]]:
    """The association's request, and its operations."""
    if operation == "store":
        return stages.ASSOCIATE_STORE, Objects(size_kb * 1024, 1).requests(count)
    if operation == "echo":
        return stages.ASSOCIATE_ECHO, [dul.encode_echo(1)] * count
    if operation == "associate":
        return stages.ASSOCIATE_ECHO, []
    uids = stages.fill(node, _STUDIES)
    return stages.ASSOCIATE_FIND, [
        stages.find_request(uids[-1] if operation == "find-one" else "")
    ] * count


def main() -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("--size", type=int, default=8, metavar="KB", help="of objects stored")
    parser.add_argument("--count", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108 - memory
    parser.add_argument("--sort", default="tottime", help="as pstats: tottime, cumulative, ncalls")
    parser.add_argument("--lines", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the profile here too")
    arguments = parser.parse_args()
    profile = cProfile.Profile()
    with (
        tempfile.TemporaryDirectory(prefix="profile-", dir=arguments.folder) as folder,
        node_in(Path(folder)) as node,
    ):
        associate_rq, requests = _work(arguments.operation, node, arguments.size, arguments.count)
        associations = arguments.count if arguments.operation == "associate" else 1
        for _ in range(associations):
            pair = socket_pair()
            profile.enable()
            converse(node, pair, associate_rq, requests, answered=lambda *_: None)
            profile.disable()
    if arguments.output:
        profile.dump_stats(arguments.output)
    pstats.Stats(profile).sort_stats(arguments.sort).print_stats(arguments.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
