"""Turns what fails while a DICOMweb server is asked into errors of the peer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore2

from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind
from lfscp.upperlayer.connection.errors import CalledOffError


@contextmanager
def failures(peer: DICOMwebPeer) -> Iterator[None]:
    """Turns what fails inside into an error of the peer.

    Raises:
        GivenUpError: somebody stopped it.
        PeerError: the server cannot be reached, breaks off, is silent, or speaks no HTTP.
    """
    try:
        yield
    except CalledOffError:
        raise GivenUpError(peer) from None
    except (httpcore2.ReadTimeout, httpcore2.WriteTimeout):
        reason = f"sent or took nothing, or too little, for {peer.timeout_s:g} s"
        raise PeerError(PeerErrorKind.TIMED_OUT, peer, reason) from None
    except (httpcore2.ReadError, httpcore2.WriteError) as error:
        reason = f"ended the connection ({error})"
        raise PeerError(PeerErrorKind.ABORTED, peer, reason) from None
    except httpcore2.RemoteProtocolError as error:
        is_end = "closed connection" in str(error) or "disconnected" in str(error)
        what = "ended the connection in the middle of its answer"
        reason = what if is_end else "sent no valid HTTP answer"
        raise PeerError(PeerErrorKind.ABORTED, peer, reason) from None
    except OSError as error:  # of the connection, of TLS, or of a file for it
        reason = f"cannot be reached: {_why(error, peer)}"
        raise PeerError(PeerErrorKind.UNREACHABLE, peer, reason) from None


def _why(error: OSError, peer: DICOMwebPeer) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {peer.connect_timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason').replace('_', ' ').lower()}"
    return error.strerror or str(error)
