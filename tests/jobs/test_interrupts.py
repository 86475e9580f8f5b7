from __future__ import annotations

import signal
import threading

import pytest

from upscale.jobs.interrupts import defer_interrupts


@pytest.fixture(autouse=True)
def _default_handler():
    """Restore the default handler, because test runs in the background ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_is_delayed_until_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("first half")
            signal.raise_signal(signal.SIGINT)
            done.append("second half")
        done.append("never")
    assert done == ["first half", "second half"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_are_restored_without_an_interrupt():
    with defer_interrupts():
        pass
    with pytest.raises(ValueError), defer_interrupts():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_unaffected():
    failures = []

    def step():
        try:
            with defer_interrupts():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert not failures
