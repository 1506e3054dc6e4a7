"""Signals and messages wake the main thread, in the order in which they came."""

import os
import signal
import threading

from lfscp.node.signals import SignalPipe


def test_a_signal_arrives_as_its_number():
    with SignalPipe() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(5) == signal.SIGTERM


def test_two_signals_are_two_messages():
    with SignalPipe() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(5) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.wait(5) == signal.SIGINT


def test_another_thread_wakes_the_wait():
    with SignalPipe() as signals:
        thread = threading.Thread(target=signals.put, args=(0,))
        thread.start()
        assert signals.wait(5) == 0
        thread.join()


def test_the_wait_ends_with_its_time():
    with SignalPipe() as signals:
        assert signals.wait(0.01) is None


def test_handlers_are_put_back_and_late_messages_are_dropped():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with SignalPipe() as signals:
        pass
    signals.put(0)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
