"""What one address may do, counted with a clock of the test's own."""

from contextlib import ExitStack

import pytest

from lfscp.server.address_limits import (
    TOO_MANY_FROM_ADDRESS,
    TOO_MANY_PER_MINUTE,
    AddressLimits,
    NotListenedTo,
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def opened(limits, address):
    """What becomes of a connection that is over at once."""
    with limits.counting(address) as rejection:
        return rejection


def test_associations_beyond_the_limit_are_rejected_and_far_beyond_not_heard():
    limits = AddressLimits(max_associations=2)
    with ExitStack() as running:
        results = [running.enter_context(limits.counting("10.0.0.1")) for _ in range(10)]
        assert results == [None] * 2 + [TOO_MANY_FROM_ADDRESS] * 8
        with pytest.raises(NotListenedTo):
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
        except NotListenedTo:
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


def test_without_a_limit_it_is_off():
    assert not AddressLimits().is_on
    assert AddressLimits(max_associations=1).is_on
    assert AddressLimits(max_per_minute=1).is_on
