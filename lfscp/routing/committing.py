"""Asks a destination to commit to what it got, and takes its reports.

Rules: the request is in the index before the destination is asked. Its objects stay in the queue
until the report has come: what it commits to is sent, what it does not is sent again. The report
may come on the same association, or later on one of the destination's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lfscp.archive.workflow.commitment.failure_reasons import words_there
from lfscp.archive.workflow.commitment.references import Reference
from lfscp.archive.workflow.commitment.requests import CommitmentRequests, Taken
from lfscp.jobs.peers.described import configured_peer
from lfscp.routing.batch import Batch
from lfscp.routing.queue_rows import Failure, Item, QueueName
from lfscp.routing.queues import Queues
from lfscp.scu.commit import Question, ask
from lfscp.scu.connection import Flag
from lfscp.scu.errors import PeerError
from lfscp.scu.peer import Peer
from lfscp.services.commitment.n_event_report import Report

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

_STAY_S: Final = 2.0  # on the association, for a destination that reports there
_HOUR_S: Final = 3600.0


def ask_to_commit(
    name: QueueName,
    peer_name: str,
    batch: Batch,
    sent: Mapping[Item, int],
    archive: Archive,
    settings: Settings,
    queues: Queues,
    cancel: Flag,
) -> Mapping[Item, Failure]:
    """Ask for commitment to what was sent of a batch.

    Args:
        peer_name: which of the peers of a fail-over list has it.
    Returns:
        The objects that are to be sent again: if the destination could not be asked, or has
        reported already that it does not commit to them.
    """
    peer = configured_peer(peer_name, settings.peers[peer_name], settings.server)
    assert isinstance(peer, Peer)  # noqa: S101 - the configuration has been checked
    sent_as = {item: batch.sent_as(item) for item in sent}
    references = [Reference(each.sop_class_uid, each.sop_instance_uid) for each in sent_as.values()]
    requests = CommitmentRequests(archive.index)
    (uid,) = requests.add(peer.ae_title, [references])
    queues.ask_commitment({item: each.sop_instance_uid for item, each in sent_as.items()}, uid)

    def keep(report: Report, ae_title: str) -> Taken:
        return requests.report(report.transaction_uid, ae_title, report.committed, report.failures)

    try:
        ask(
            peer,
            Question(uid, references),
            keep=keep,
            is_enough=lambda: requests.is_reported(uid),
            wait_s=_STAY_S,
            on_asked=lambda: requests.asked(uid),
            cancel=cancel,
        )
    except PeerError as error:
        return dict.fromkeys(sent, Failure(f"cannot be asked for commitment: {error}"))
    return take_reports(name, {uid}, archive, settings, queues)


def take_reports(
    name: QueueName, uids: set[str], archive: Archive, settings: Settings, queues: Queues
) -> dict[Item, Failure]:
    """Look at the reports that have come; the objects that were not committed to, and why."""
    requests = CommitmentRequests(archive.index)
    failed: dict[Item, Failure] = {}
    for uid in uids:
        request = requests.get(uid)
        items = {item.sent_uid or item.sop_instance_uid: item for item in queues.asked(name, uid)}
        if request is None:
            gone = Failure("its request for commitment is gone")
            failed.update(dict.fromkeys(items.values(), gone))
        elif request.failures is not None:
            committed = [items[each] for each in request.committed if each in items]
            queues.committed(name, {item: item.size for item in committed})
            for failure in request.failures:
                if failure.sop_instance_uid in items:
                    words = f"not committed to: {words_there(failure.reason)}"
                    failed[items[failure.sop_instance_uid]] = Failure(words)
        elif request.waited_s > settings.commitment.wait_hours * _HOUR_S:
            hours = f"{settings.commitment.wait_hours:g} hours"
            words = f"no report on its commitment came within {hours}"
            failed.update(dict.fromkeys(items.values(), Failure(words)))
    return failed
