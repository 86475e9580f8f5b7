from __future__ import annotations

import signal
import threading

import pytest

from upscale.jobs.interrupts import whole_step


@pytest.fixture(autouse=True)
def _heeded():
    """A test run in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_end_of_the_step():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with whole_step():
            signal.raise_signal(signal.SIGINT)
            done.append("first half")
            signal.raise_signal(signal.SIGINT)
            done.append("second half")
        done.append("never")
    assert done == ["first half", "second half"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens():
    with whole_step():
        pass
    with pytest.raises(ValueError), whole_step():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with whole_step():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_may_use_it():
    failures = []

    def step():
        try:
            with whole_step():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert not failures
