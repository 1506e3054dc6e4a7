"""Side-by-side benchmark of DICOM SCP servers (see README.md)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))  # of `tests.support`, which has what both need
