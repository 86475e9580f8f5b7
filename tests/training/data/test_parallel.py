from __future__ import annotations

import multiprocessing
from functools import partial

import pytest
from upscale_training.data.parallel import map_parallel

from upscale.errors import ImageError

END = "__import__('os')._exit(7)"


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order_and_errors_are_results(jobs):
    items = [f"{number} + 1" for number in range(20)]
    items[4] = "1 / 0"
    found = list(map_parallel(eval, items, jobs))
    assert [item for item, _ in found] == items
    assert isinstance(found[4][1], ZeroDivisionError)
    assert [result for _, result in found if not isinstance(result, Exception)] == [
        number + 1 for number in range(20) if number != 4
    ]


def test_an_item_that_ends_its_process_affects_no_other():
    items = ["1", END, "3", "4", END, "6", "7", "8"]
    found = list(map_parallel(eval, items, 2))
    assert [item for item, _ in found] == items
    assert [str(result) for _, result in found if not isinstance(result, Exception)] == [
        "1", "3", "4", "6", "7", "8"
    ]  # fmt: skip
    for place in (1, 4):
        result = found[place][1]
        assert isinstance(result, ImageError)
        assert "ended the process" in str(result)


def test_no_process_outlives_an_interrupt():
    before = set(multiprocessing.active_children())
    steps = map_parallel(partial(eval), [str(number) for number in range(50)], 2)
    next(steps)
    assert set(multiprocessing.active_children()) != before
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)
    assert set(multiprocessing.active_children()) == before
