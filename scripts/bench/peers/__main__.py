"""Starts the benchmark: `python -m peers` in scripts/bench, or `python scripts/bench/peers`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers.command import main

if __name__ == "__main__":
    sys.exit(main())
