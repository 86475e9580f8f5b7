"""Network interpolation."""

from __future__ import annotations

import pytest
import torch

from upscale.checkpoints import blend
from upscale.checkpoints.blending import to_half
from upscale.errors import CheckpointError


def state(value: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((2, 3), value, dtype=dtype), "a.bias": torch.full((2,), -value)}


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 5.0), (0.25, 4.0), (0.5, 3.0), (1.0, 1.0)])
def test_result_is_the_weighted_mean(alpha: float, expected: float) -> None:
    mixed = blend(state(1.0), state(5.0), alpha)
    assert torch.equal(mixed["a.weight"], torch.full((2, 3), expected))
    assert torch.equal(mixed["a.bias"], torch.full((2,), -expected))


def test_ends_are_exact() -> None:
    torch.manual_seed(0)
    one, other = {"w": torch.randn(1000)}, {"w": torch.randn(1000) * 1e6}
    assert torch.equal(blend(one, other, 1.0)["w"], one["w"])
    assert torch.equal(blend(one, other, 0.0)["w"], other["w"])


def test_half_precision_is_blended_in_float32() -> None:
    one = {"w": torch.tensor([60000.0], dtype=torch.float16)}
    other = {"w": torch.tensor([59968.0], dtype=torch.float16)}
    mixed = blend(one, other, 0.25)["w"]
    assert mixed.dtype == torch.float32
    assert mixed.item() == 59976.0, "which fp16 cannot hold"


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_result_of_half_precision_has_no_rounding_of_half_precision(alpha: float) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(100).half(), torch.randn(100).half()
    mixed = blend({"w": one}, {"w": other}, alpha)["w"]
    assert torch.equal(mixed, one.float() * alpha + other.float() * (1 - alpha))


def test_counters_are_taken_from_the_first() -> None:
    mixed = blend({"n": torch.tensor(3)}, {"n": torch.tensor(9)}, 0.5)
    assert torch.equal(mixed["n"], torch.tensor(3))


def test_inputs_are_not_modified() -> None:
    one, other = state(1.0), state(5.0)
    blend(one, other, 0.5)["a.weight"].zero_()
    assert torch.equal(one["a.weight"], torch.ones(2, 3))


def test_first_mismatch_is_named() -> None:
    other = state(2.0)
    other["a.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"a\.bias is \(2,\) and \(3,\)"):
        blend(state(1.0), other, 0.5)


@pytest.mark.parametrize("swap", [False, True])
def test_missing_tensor_is_named(swap: bool) -> None:
    one, other = state(1.0), state(2.0)
    del other["a.bias"]
    one, other = (other, one) if swap else (one, other)
    with pytest.raises(CheckpointError, match=r"only one has a\.bias"):
        blend(one, other, 0.5)


def test_values_beyond_fp16_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^a has values beyond the range of fp16; leave out"):
        to_half({"a": torch.tensor([70_000.0])})
    half = to_half({"a": torch.tensor([65_504.0]), "n": torch.tensor([3])})
    assert half["a"].dtype is torch.float16
    assert half["n"].dtype is torch.int64


def test_blend_that_overflows_is_refused() -> None:
    huge = {"a": torch.tensor([1e300], dtype=torch.float64)}
    with pytest.raises(CheckpointError, match=r"^a has values beyond the range of float32$"):
        blend(huge, huge, 0.5)


def test_float8_networks_are_blended_in_float32() -> None:
    a = {"a": torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn)}
    mixed = blend(a, {"a": torch.tensor([2.0, 4.0])}, 0.5)
    assert torch.equal(mixed["a"], torch.tensor([1.5, 3.0]))
