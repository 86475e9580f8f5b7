"""The training loop: stages and iterations, saved states, validation, and events."""

from __future__ import annotations

from upscale_training.loop.events import (
    Baseline,
    Changed,
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
    "Changed",
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
