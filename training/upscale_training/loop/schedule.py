"""The learning rate as a function of the iteration, so that it has no state to save."""

from __future__ import annotations

from bisect import bisect_right

from upscale_training.recipe import ScheduleSettings


def rate_factor(settings: ScheduleSettings, done: int) -> float:
    """Return the factor of learning rates after `done` iterations of a stage."""
    factor = settings.gamma ** bisect_right(settings.milestones, done)
    return factor * min(1.0, (done + 1) / settings.warmup) if settings.warmup else factor
