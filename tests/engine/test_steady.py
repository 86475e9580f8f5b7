from __future__ import annotations

import pytest
import torch

from upscale.engine.steady import blend, share_of


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(0)
    return torch.rand((2, 1, 3, 24, 32), generator=generator)


def flow(across: float, down: float) -> torch.Tensor:
    return (
        torch.tensor([float(across), float(down)])
        .view(1, 2, 1, 1)
        .expand(1, 2, 12, 16)
        .contiguous()
    )


def test_the_share_grows_to_one_half():
    shares = [share_of(step / 10) for step in range(11)]
    assert shares[0] == 0 and shares[-1] == 0.5 and shares == sorted(shares)
    assert 0.3 < share_of(0.5) < 0.45


def test_a_still_frame_becomes_the_mean(frames):
    before = frames.clone()
    result = blend(*frames, flow(0, 0), torch.ones(1, 1, 12, 16), 1.0)
    assert torch.allclose(result, frames.mean(0), atol=1e-5)
    assert torch.equal(frames, before)


def test_nothing_is_blended_without_trust(frames):
    result = blend(*frames, flow(3, 1), torch.zeros(1, 1, 12, 16), 1.0)
    assert torch.equal(result, frames[0])
    assert result.data_ptr() != frames[0].data_ptr()


def test_the_previous_frame_is_moved_by_the_scaled_flow(frames):
    current = torch.roll(frames[1], (-2, -4), (2, 3))
    result = blend(current, frames[1], flow(2, 1), torch.ones(1, 1, 12, 16), 1.0)
    inside = (..., slice(2, -4), slice(2, -6))
    assert torch.allclose(result[inside], current[inside], atol=1e-4)
    assert not torch.allclose(result, current, atol=0.05)


def test_trust_may_differ_from_place_to_place(frames):
    trust = torch.zeros(1, 1, 12, 16)
    trust[..., :8] = 1
    result = blend(*frames, flow(0, 0), trust, 0.5)
    assert torch.equal(result[..., 18:], frames[0][..., 18:])
    expected = torch.lerp(frames[0], frames[1], share_of(0.5))
    assert torch.allclose(result[..., :14], expected[..., :14], atol=1e-5)
