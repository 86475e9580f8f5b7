"""The upscale_training loop: stages and their iterations, states, validation, and what is told of them."""

from __future__ import annotations

from upscale_training.loop.events import (
    Baseline,
    Event,
    Exported,
    Listener,
    Logged,
    Note,
    Saved,
    StageStarted,
    Stepped,
    Validated,
    as_record,
)
from upscale_training.loop.trainer import train

__all__ = [
    "Baseline",
    "Event",
    "Exported",
    "Listener",
    "Logged",
    "Note",
    "Saved",
    "StageStarted",
    "Stepped",
    "Validated",
    "as_record",
    "train",
]
