"""The learning rate as a function of the iteration, so that it has no state to save."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from upscale_training.recipe import ScheduleSettings


def rate_factor(settings: ScheduleSettings, done: int, iterations: int) -> float:
    """Return the factor of learning rates after some iterations of a stage.

    Args:
        settings: Schedule of the stage.
        done: Number of iterations done.
        iterations: Number of iterations of the stage.

    Example:
        >>> rate_factor(ScheduleSettings(kind="cosine"), done=50, iterations=100)
        0.5
    """
    if settings.kind == "cosine":
        factor = _cosine(settings, done, iterations)
    elif settings.kind == "knee":
        factor = _knee(settings, done, iterations)
    else:
        factor = settings.gamma ** bisect_right(settings.milestones, done)
    return factor * min(1.0, (done + 1) / settings.warmup) if settings.warmup else factor


def _knee(settings: ScheduleSettings, done: int, iterations: int) -> float:
    """Explore, then exploit (arXiv 2003.03977): flat, then linear to the minimum."""
    flat = settings.hold * iterations
    share = min(1.0, max(0.0, (done - flat) / (iterations - flat)))
    return 1 - (1 - settings.minimum) * share


def _cosine(settings: ScheduleSettings, done: int, iterations: int) -> float:
    """SGDR (arXiv 1608.03983), equation 5; after the last period, the minimum stays."""
    starts = [0, *accumulate(settings.periods or (iterations,))]
    period = min(bisect_right(starts, done), len(starts) - 1)
    length = starts[period] - starts[period - 1]
    share = min(1.0, (done - starts[period - 1]) / length)
    return settings.minimum + (1 - settings.minimum) * (1 + math.cos(math.pi * share)) / 2
