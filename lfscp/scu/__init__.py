"""Asking other application entities: echo, find, get, move, send, each in the calling thread."""

from lfscp.scu.echo import EchoResult, echo
from lfscp.scu.errors import GivenUp, PeerError, Unsupported
from lfscp.scu.find import find
from lfscp.scu.peer import Peer
from lfscp.scu.retrieve import RetrieveProgress, RetrieveResult, get, move
from lfscp.scu.send import SendResult, objects_in, send

__all__ = [
    "EchoResult",
    "GivenUp",
    "Peer",
    "PeerError",
    "RetrieveProgress",
    "RetrieveResult",
    "SendResult",
    "Unsupported",
    "echo",
    "find",
    "get",
    "move",
    "objects_in",
    "send",
]
