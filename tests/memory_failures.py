"""Let memory run out at one place of a computation: at its n-th allocation or copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.budget import all_rounds
from upscale.engine import canvas, colour_correction, feature_maps, resize, temporary, tta, upscaler
from upscale.tiling import exact, wrapping

COPIES = ("copy_", "_to_copy", "_local_scalar_dense")
"""Operations of torch that copy, whether they allocate or not."""

ALLOCATIONS = ("array", "ascontiguousarray", "clip", "copyto", "empty", "pad", "rint", "tile")
"""Functions of NumPy that allocate or copy."""

NUMPY_USERS = (canvas, colour_correction, resize, temporary, tta, upscaler, wrapping)

ERRORS: list[Callable[[], BaseException]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError,
]


class Counter:
    """Counts allocations and copies, and raises an error at one of them."""

    def __init__(
        self, failing: int | None = None, error: Callable[[], BaseException] = MemoryError
    ):
        self.places: list[str] = []
        self._failing, self._error = failing, error

    def pass_through(self, place: str) -> None:
        self.places.append(place)
        if len(self.places) - 1 == self._failing:
            raise MemoryError if place.startswith("numpy") else self._error()


class _Dispatch(TorchDispatchMode):
    """Counts the operations of torch: an allocation is one whose output is a new storage."""

    def __init__(self, counter: Counter):
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in COPIES:
            self._counter.pass_through(f"torch.{name}")
        result = func(*args, **(kwargs or {}))
        if name not in COPIES and _storages(result) - _storages((args, kwargs)):
            self._counter.pass_through(f"torch.{name}")
        return result


def _storages(tree: Any) -> set[int]:
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return {tensor.untyped_storage()._cdata for tensor in tensors}


class _Numpy:
    """NumPy, some of whose functions are counted."""

    def __init__(self, counter: Counter):
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if name not in ALLOCATIONS:
            return function

        def counted(*args, **kwargs):
            self._counter.pass_through(f"numpy.{name}")
            return function(*args, **kwargs)

        return counted


@contextmanager
def failing(
    place: int | None = None, error: Callable[[], BaseException] = MemoryError
) -> Iterator[Counter]:
    """Raise `error` once, at allocation or copy number `place` of the block; None only counts."""
    counter = Counter(place, error)

    def clear(target):
        counter.pass_through("clear")
        zero(target)

    def allocate(*args):
        counter.pass_through("allocate")
        return allocator(*args)

    zero, allocator = exact._clear, feature_maps.FeatureMaps.allocate
    with pytest.MonkeyPatch.context() as patch, _Dispatch(counter):
        patch.setattr(exact, "_clear", clear)
        patch.setattr(feature_maps.FeatureMaps, "allocate", allocate)
        for module in NUMPY_USERS:
            patch.setattr(module, "np", _Numpy(counter))
        yield counter


def spread(places: int, most: int = 12) -> range:
    """Return some of the places where an error is injected, in equal distances, or all of them."""
    return range(0, places, 1 if all_rounds() else -(-places // most))


def assert_equal(result: np.ndarray, expected: np.ndarray) -> None:
    """Assert that two results are equal but for other sums of other tiles, and rounding."""
    assert result.dtype == expected.dtype
    most = 2e-5 if result.dtype.kind == "f" else math.ceil(2e-5 * np.iinfo(result.dtype).max + 0.5)
    assert np.abs(result.astype(np.float64) - expected).max() <= most
