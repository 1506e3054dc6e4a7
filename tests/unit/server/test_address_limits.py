"""What one address may do, counted with a clock of the test's own."""

import os
from contextlib import ExitStack

import pytest

from lfscp.server.address_limits import (
    TOO_MANY_FROM_ADDRESS,
    TOO_MANY_OF_PEER,
    TOO_MANY_PER_MINUTE,
    AddressLimitError,
    AddressLimits,
)
from lfscp.server.association_board import AssociationBoard
from lfscp.upperlayer.wire.rejections import LOCAL_LIMIT_EXCEEDED
from tests.support.still_clock import StillClock


@pytest.fixture
def clock():
    return StillClock()


def opened(limits, address):
    """What becomes of a connection that is over at once."""
    with limits.counting(address) as place:
        return place.rejection


def test_associations_beyond_the_limit_are_rejected_and_far_beyond_not_heard():
    limits = AddressLimits(max_associations=2)
    with ExitStack() as running:
        places = [running.enter_context(limits.counting("10.0.0.1")) for _ in range(10)]
        assert [place.rejection for place in places] == [None] * 2 + [TOO_MANY_FROM_ADDRESS] * 8
        with pytest.raises(AddressLimitError):
            running.enter_context(limits.counting("10.0.0.1"))
        assert opened(limits, "10.0.0.2") is None, "another address has its own"
        assert limits.of("10.0.0.1") == 10
    assert limits.of("10.0.0.1") == 0
    assert opened(limits, "10.0.0.1") is None


def test_connections_of_a_minute_come_back_evenly(clock):
    limits = AddressLimits(max_per_minute=6, clock=clock)
    assert [opened(limits, "a") for _ in range(7)] == [None] * 6 + [TOO_MANY_PER_MINUTE]
    clock.now += 20  # two come back, of which the excess took one
    assert [opened(limits, "a") for _ in range(2)] == [None, TOO_MANY_PER_MINUTE]
    assert opened(limits, "b") is None


def test_who_goes_on_connecting_is_not_heard(clock):
    limits = AddressLimits(max_per_minute=3, clock=clock)
    results = []
    for _ in range(8):
        try:
            results.append(opened(limits, "a"))
        except AddressLimitError:
            results.append("closed")
    assert results == [None] * 3 + [TOO_MANY_PER_MINUTE] * 2 + ["closed"] * 3
    clock.now += 120
    assert opened(limits, "a") is None, "two quiet minutes make up for it"


def test_addresses_of_long_ago_are_forgotten(clock):
    limits = AddressLimits(max_per_minute=3, clock=clock)
    for number in range(4096):
        opened(limits, str(number))
    clock.now += 200
    opened(limits, "new")
    assert len(limits._left) == 1


def test_a_peer_that_is_known_has_associations_of_its_own():
    limits = AddressLimits(max_associations=2)
    with ExitStack() as running:
        strangers = [running.enter_context(limits.counting("10.0.0.1")) for _ in range(2)]
        known = [running.enter_context(limits.counting("10.0.0.1")) for _ in range(3)]
        assert [place.move_to("CT1@10.0.0.1") for place in known] == [None, None, TOO_MANY_OF_PEER]
        assert [place.rejection for place in strangers] == [None, None]
        assert (limits.of("10.0.0.1"), limits.of("CT1@10.0.0.1")) == (2, 3)
        another = running.enter_context(limits.counting("10.0.0.1"))
        assert another.move_to("MR1@10.0.0.1") is None
    assert limits.board.total() == 0


def test_the_log_says_once_which_setting_to_raise(caplog):
    limits = AddressLimits(max_associations=1)
    with ExitStack() as running:
        for _ in range(5):
            running.enter_context(limits.counting("10.0.0.1"))
    assert len(caplog.messages) == 1
    assert "10.0.0.1" in caplog.text
    assert "server.max_associations_per_address is 1" in caplog.text


def test_without_a_limit_it_is_off():
    assert not AddressLimits().is_on
    assert AddressLimits(max_associations=1).is_on
    assert AddressLimits(max_per_minute=1).is_on


def test_processes_count_together():
    board = AssociationBoard(workers=2)
    limits = AddressLimits(max_associations=2, board=board)
    limits.max_total = 3
    told, tell = os.pipe()
    go_on, let_go = os.pipe()
    child = os.fork()
    if child == 0:  # the other worker: one association of each of two addresses
        try:
            board.use(1)
            with limits.counting("10.0.0.1"), limits.counting("10.0.0.2"):
                os.write(tell, b".")
                os.read(go_on, 1)
        finally:
            os._exit(0)
    try:
        os.read(told, 1)
        assert limits.of("::ffff:10.0.0.1") == 1, "the same address, seen by a socket for both"
        with limits.counting("10.0.0.1") as first, limits.counting("10.0.0.1") as second:
            assert (first.rejection, second.rejection) == (None, TOO_MANY_FROM_ADDRESS)
            assert opened(limits, "10.0.0.3") == LOCAL_LIMIT_EXCEEDED
    finally:
        os.write(let_go, b".")
        os.waitpid(child, 0)
        for each in (told, tell, go_on, let_go):
            os.close(each)
    assert board.total() == 0


def test_a_worker_that_died_leaves_nothing_counted():
    board = AssociationBoard(workers=2)
    board.use(1)
    board.enter("10.0.0.1")
    board.use(1)  # its successor
    assert (board.of("10.0.0.1"), board.total()) == (0, 0)


def test_addresses_are_told_apart_wherever_they_stand():
    board = AssociationBoard()
    places = [board.enter(each) for each in ("10.0.0.1", "0.0.10.0", "10.0.0.1", "fd00::1")]
    assert [board.of(each) for each in ("10.0.0.1", "0.0.10.0", "fd00::1")] == [2, 1, 1]
    for place in places:
        board.leave(place)
    assert board.of("10.0.0.1") == board.total() == 0
