from __future__ import annotations

import threading
import time

import pytest

from upscale.jobs.pipeline import WaitTimes, WriteBehind, read_ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("upscale-")]


def test_items_are_read_in_order_and_the_thread_ends():
    with read_ahead(range(100), 3) as items:
        assert list(items) == list(range(100))
        assert list(items) == []
    assert not threads()


def test_reading_ahead_is_limited_to_the_depth():
    made = []
    enough = threading.Event()

    def items():
        for number in range(50):
            made.append(number)
            if number == 5:
                enough.set()
            yield number

    with read_ahead(items(), 4) as taken:
        next(taken)
        enough.wait()
        assert len(made) <= 7
    assert len(made) < 20


def test_error_of_the_reader_is_raised_to_the_consumer():
    def items():
        yield 1
        raise ValueError("broken")

    with read_ahead(items(), 2) as taken:
        assert next(taken) == 1
        with pytest.raises(ValueError, match="broken"):
            next(taken)
    assert not threads()


def test_leaving_the_block_early_ends_the_reader():
    with pytest.raises(KeyError), read_ahead(iter(int, 1), 2) as taken:
        next(taken)
        raise KeyError
    assert not threads()


def test_all_items_are_processed_in_order_before_the_block_ends():
    done = []
    with WriteBehind(done.append, 2) as writer:
        for number in range(40):
            writer.put(number)
    assert done == list(range(40))
    assert not threads()


def test_error_of_the_writer_is_raised_and_later_items_are_skipped():
    done = []

    def work(item):
        if item == 3:
            raise OSError("full")
        done.append(item)

    with pytest.raises(OSError, match="full"), WriteBehind(work, 1) as writer:
        for number in range(1000):
            writer.put(number)
    assert done == [0, 1, 2]
    assert not threads()


def test_failing_block_waits_for_queued_items():
    done = []
    with pytest.raises(KeyError), WriteBehind(done.append, 5) as writer:
        for number in range(4):
            writer.put(number)
        raise KeyError
    assert done == [0, 1, 2, 3]
    assert not threads()


def test_time_that_the_consumer_waits_is_measured():
    waits = WaitTimes()

    def items():
        for number in range(4):
            time.sleep(0.05)
            yield number

    start = time.perf_counter()
    with read_ahead(items(), 2, waits) as taken:
        assert list(taken) == [0, 1, 2, 3]
    elapsed = time.perf_counter() - start
    assert 0.15 <= waits.for_input <= elapsed
    assert waits.for_output == 0


def test_time_that_the_producer_waits_is_measured():
    waits = WaitTimes()
    start = time.perf_counter()
    with WriteBehind(lambda _: time.sleep(0.05), 1, waits) as writer:
        for number in range(5):
            writer.put(number)
    elapsed = time.perf_counter() - start
    assert 0.1 <= waits.for_output <= elapsed
    assert waits.for_input == 0
