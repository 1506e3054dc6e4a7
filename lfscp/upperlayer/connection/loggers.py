"""pynetdicom's loggers, for what pynetdicom's server would write to them.

Applications filter by these names, levels and words; lfscp's server, in that server's place, writes
the same lines. Why an association ended is said besides, in one line of lfscp's own.
"""

from __future__ import annotations

import logging
from typing import Final

ACSE: Final = logging.getLogger("pynetdicom.acse")
ASSOCIATION: Final = logging.getLogger("pynetdicom.association")
DIMSE: Final = logging.getLogger("pynetdicom.dimse")
DUL: Final = logging.getLogger("pynetdicom.dul")
SERVICE_CLASS: Final = logging.getLogger("pynetdicom.service_class")
