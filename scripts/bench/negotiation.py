"""What negotiating an association costs with 1 and with 128 contexts: lfscp beside pynetdicom.

    python scripts/bench/negotiation.py --markdown

The same A-ASSOCIATE-RQ, the same supported contexts (those of a node with default settings), each
step by lfscp's function and by pynetdicom's. The last row is lfscp's whole association, from the
accepted connection to its close, over a pair of sockets.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

from conversation import converse, node_in, socket_pair
from peers import dul
from peers.associating import modality_contexts
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from tables import Samples, number, table

from lfscp.config import Settings
from lfscp.services.contexts import contexts
from lfscp.upperlayer.scp.contexts import SupportedContexts
from lfscp.upperlayer.wire.associate_pdus import AssociateRequest, encode_accept

Step = Callable[[], Any]
SIZES = {"1 context": 1, "128 contexts of 3 syntaxes": 128}


def _request(count: int) -> bytes:
    proposed = modality_contexts()[:count]
    if count == 1:
        proposed = [dul.ProposedContext(1, dul.VERIFICATION)]
    return dul.encode_associate_rq("LFSCP", proposed)


def _decoded_by_pynetdicom(request: bytes) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(request)
    return pdu.to_primitive()


def _encoded_by_pynetdicom(primitive: A_ASSOCIATE) -> bytes:
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _acceptance(request: A_ASSOCIATE, results: list[PresentationContext]) -> A_ASSOCIATE:
    answer = A_ASSOCIATE()
    answer.application_context_name = request.application_context_name
    answer.calling_ae_title = request.calling_ae_title
    answer.called_ae_title = request.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    length, uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 131072
    uid.implementation_class_uid = cast(Any, "1.2.3.4")
    answer.user_information = [length, uid]
    return answer


def steps(request: bytes) -> dict[str, tuple[Step, Step]]:
    """Each step as (lfscp's, pynetdicom's), ready to be called."""
    supported = contexts(Settings())
    prepared = SupportedContexts(supported)
    primitive = _decoded_by_pynetdicom(request)
    proposed = primitive.presentation_context_definition_list
    results, _ = prepared.negotiate(proposed, {})
    answer = _acceptance(primitive, results)
    if encode_accept(answer) != _encoded_by_pynetdicom(answer):
        raise ValueError("the two do not encode the same A-ASSOCIATE-AC")
    return {
        "take the supported contexts": (
            partial(list, prepared.contexts),
            partial(deepcopy, supported),
        ),
        "decode A-ASSOCIATE-RQ": (
            lambda: AssociateRequest(request).to_primitive(),
            partial(_decoded_by_pynetdicom, request),
        ),
        "decide on the contexts": (
            partial(prepared.negotiate, proposed, {}),
            partial(negotiate_as_acceptor, proposed, supported, {}),
        ),
        "encode A-ASSOCIATE-AC": (
            partial(encode_accept, answer),
            partial(_encoded_by_pynetdicom, answer),
        ),
    }


def _measured(step: Step, repeats: int) -> Samples:
    samples = Samples()
    for at in range(repeats + 2):
        began = time.perf_counter()
        step()
        if at >= 2:
            samples.add_seconds(time.perf_counter() - began)
    return samples


def _whole(request: bytes, repeats: int) -> Samples:
    with tempfile.TemporaryDirectory() as folder, node_in(Path(folder)) as node:

        def associate() -> None:
            converse(node, socket_pair(), request, (), answered=lambda *_: None)

        return _measured(associate, repeats)


def _shown(samples: Samples) -> str:
    return f"{number(samples.least)} / {number(samples.median)}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="with a heading above each table")
    arguments = parser.parse_args()
    for title, count in SIZES.items():
        request = _request(count)
        rows = []
        totals = [0.0, 0.0]
        for name, both in steps(request).items():
            samples = [_measured(step, arguments.repeats) for step in both]
            totals = [total + each.least for total, each in zip(totals, samples, strict=True)]
            rows.append([name, *map(_shown, samples), f"{samples[1].least / samples[0].least:.0f}"])
        rows.append(["sum of the least", *map(number, totals), f"{totals[1] / totals[0]:.0f}"])
        rows.append(["whole association", _shown(_whole(request, arguments.repeats)), "-", "-"])
        print(f"{'### ' if arguments.markdown else ''}Negotiation, {title}\n")
        print(table(["µs, least / median", "lfscp", "pynetdicom", "times"], rows), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
