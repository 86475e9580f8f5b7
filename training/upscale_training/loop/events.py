"""What a run tells while it works. Only the first of several processes tells anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Figures = Mapping[str, Mapping[str, float]]
"""Means over the images of each validation set, by metric."""


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins, or goes on.

    Attributes:
        stage: its name.
        step: iterations done before.
        steps: iterations in all.
    """

    stage: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """An iteration is done."""

    stage: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Logged:
    """What happened since the last of these.

    Attributes:
        stage: its name.
        step: iterations done.
        steps: iterations in all.
        losses: their means, weighted, over these iterations and all processes: `pixel`,
            `perceptual`, `style` and `gan` of the generator, `real` and `fake` of the
            discriminator.
        learning_rate: of the last iteration.
        images_per_second: patches that all processes have trained on.
        seconds_left: until the end of the stage, at this speed.
        shares: of this process's time, 0 to 1: `data` (waiting for it), `degradation`,
            `generator`, `discriminator`, `validation`, `saving`.
    """

    stage: str
    step: int
    steps: int
    losses: Mapping[str, float]
    learning_rate: float
    images_per_second: float
    seconds_left: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What bicubic interpolation gets in validation: the figures to beat."""

    figures: Figures


@dataclass(frozen=True, slots=True)
class Validated:
    """What the averaged weights get in validation."""

    stage: str
    step: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Saved:
    """A state is complete and on the disk."""

    stage: str
    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Exported:
    """Weights that `upscale -n` loads are written."""

    stage: str
    path: Path


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know that stops nothing."""

    text: str


Event = StageStarted | Stepped | Logged | Baseline | Validated | Saved | Exported | Note
Listener = Callable[[Event], None]

_NAMES: Mapping[type[Event], str] = {
    StageStarted: "stage",
    Stepped: "iteration",
    Logged: "step",
    Baseline: "baseline",
    Validated: "validation",
    Saved: "saved",
    Exported: "exported",
    Note: "note",
}


def as_record(event: Event) -> dict[str, Any]:
    """An event as plain values, for JSON; `event` says which it is."""
    values = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(event).items()
    }
    return {"event": _NAMES[type(event)], **values}
