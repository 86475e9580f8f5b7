from __future__ import annotations

import pytest
import torch
from upscale_training.loop.schedule import rate_factor
from upscale_training.recipe import ScheduleSettings


def test_milestones_are_those_of_torch_and_the_last_one_counts():
    settings = ScheduleSettings(milestones=(3, 5), gamma=0.5)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5], 0.5)
    for done in range(8):
        assert rate_factor(settings, done, 8) == optimiser.param_groups[0]["lr"]
        optimiser.step()
        scheduler.step()


def test_the_warmup_is_linear_and_starts_above_0():
    settings = ScheduleSettings(warmup=4)
    factors = [rate_factor(settings, done, 8) for done in range(6)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_cosine_is_that_of_torch_and_ends_at_the_minimum():
    settings = ScheduleSettings(kind="cosine", minimum=0.1)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=8, eta_min=0.1)
    for done in range(9):
        assert rate_factor(settings, done, 8) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()


def test_a_knee_is_flat_and_then_linear_to_the_minimum():
    settings = ScheduleSettings(kind="knee", hold=0.5, minimum=0.2)
    factors = [rate_factor(settings, done, 8) for done in range(9)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("key", ["milestones", "periods"])
def test_keys_of_other_kinds_are_refused_for_a_knee(key):
    with pytest.raises(ValueError, match="not to knee"):
        ScheduleSettings(kind="knee", **{key: (5,)})


def test_cosine_starts_again_after_each_period():
    settings = ScheduleSettings(kind="cosine", periods=(4, 6))
    factors = [rate_factor(settings, done, 10) for done in (0, 2, 4, 7, 10, 99)]
    assert factors == pytest.approx([1, 0.5, 1, 0.5, 0, 0])
