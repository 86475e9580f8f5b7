from __future__ import annotations

import weakref

import pytest
import torch

from upscale.errors import MemoryExhaustedError
from upscale.tiling.recovery import runs_out_of_memory, with_less_memory

OUT = torch.OutOfMemoryError("CUDA out of memory")


def work_that_raises(*errors):
    left = list(errors)

    def work():
        if left:
            raise left.pop(0)
        return "done"

    return work


@pytest.mark.parametrize("error", [OUT, MemoryError(), MemoryExhaustedError("the smallest tile")])
def test_work_is_repeated_after_a_remedy(error):
    remedies = []
    assert with_less_memory(work_that_raises(error), lambda: remedies.append(1)) == "done"
    assert remedies == [1]


def test_remedies_are_used_in_turn_and_only_if_they_are_needed():
    used = []
    remedies = [lambda name=name: used.append(name) for name in "abc"]
    assert with_less_memory(work_that_raises(OUT, OUT), *remedies) == "done"
    assert used == ["a", "b"]


def test_after_the_last_remedy_the_error_gives_advice():
    with pytest.raises(MemoryExhaustedError, match="close other programs"):
        with_less_memory(work_that_raises(OUT, OUT), lambda: None)
    with pytest.raises(MemoryExhaustedError, match="close other programs"):
        with_less_memory(work_that_raises(MemoryError()))


def test_advice_that_was_given_before_is_kept():
    error = MemoryExhaustedError("the smallest tile")
    with pytest.raises(MemoryExhaustedError, match="the smallest tile"):
        with_less_memory(work_that_raises(error, error), lambda: None)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug")])
def test_other_errors_are_raised_at_once(error):
    with pytest.raises(type(error), match="a bug"):
        with_less_memory(work_that_raises(error), lambda: pytest.fail("a remedy was used"))
    with pytest.raises(type(error), match="a bug"):
        runs_out_of_memory(work_that_raises(error))


def test_the_tensors_of_failed_work_are_freed_before_the_remedy():
    tensors, freed = [], []

    def work():
        if tensors:
            return "done"
        tensor = torch.zeros(3)
        tensors.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with_less_memory(work, lambda: freed.append(tensors[0]() is None))
    assert freed == [True]
