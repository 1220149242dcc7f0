"""Signals become a flag, a second Ctrl-C does not wait, and old handlers come back."""

import os
import signal
import threading

import pytest

from rebar.training.interrupt import Interrupt

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class ReachedOldHandlerError(Exception):
    pass


@pytest.fixture(autouse=True)
def old_handler():
    """A handler of the test's own, so that nothing depends on how the tests were started."""

    def handler(number, frame):
        raise ReachedOldHandlerError

    previous = {number: signal.signal(number, handler) for number in NUMBERS}
    yield handler
    for number, old in previous.items():
        signal.signal(number, old)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_sets_the_flag(number, old_handler):
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        send(number)
        assert interrupt.requested == number
    assert [signal.getsignal(n) for n in NUMBERS] == [old_handler] * 2
    assert interrupt.requested == number


@pytest.mark.parametrize("first", NUMBERS)
def test_a_further_ctrl_c_raises_at_once(first, old_handler):
    with Interrupt() as interrupt:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert interrupt.requested == first
    assert [signal.getsignal(n) for n in NUMBERS] == [old_handler] * 2


def test_a_further_sigterm_changes_nothing():
    with Interrupt() as interrupt:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert interrupt.requested == signal.SIGINT


def test_old_handlers_come_back_after_an_exception(old_handler):
    with pytest.raises(ZeroDivisionError), Interrupt():
        raise ZeroDivisionError
    assert [signal.getsignal(n) for n in NUMBERS] == [old_handler] * 2
    with pytest.raises(ReachedOldHandlerError):
        send(signal.SIGTERM)


def test_a_signal_ignored_before_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupt() as interrupt:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert interrupt.requested is None
        send(signal.SIGTERM)
        assert interrupt.requested == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_the_main_thread_nothing_happens(old_handler):
    seen = []

    def run():
        with Interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.requested))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(old_handler, None)]
