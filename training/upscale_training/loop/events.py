"""Events of a training run, which only the first of several processes emits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Scores = Mapping[str, Mapping[str, float]]
"""Means over the images of each validation set, by set and metric."""


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage starts or resumes.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done before.
        steps: Number of iterations of the stage.

    Example:
        >>> StageStarted(stage="psnr", step=0, steps=100).steps
        100
    """

    stage: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """An iteration is done.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done.
        steps: Number of iterations of the stage.

    Example:
        >>> Stepped(stage="psnr", step=1, steps=100).step
        1
    """

    stage: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Logged:
    """Losses and speed since the previous event of this kind.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done.
        steps: Number of iterations of the stage.
        losses: Weighted losses, averaged over these iterations and all processes: `pixel`,
            `perceptual`, `style`, `gan` and the kinds of further pixel losses of the generator,
            `real`, `fake` and `penalty` of the discriminator, and its mean predictions, `mean_real`
            and `mean_fake`.
        learning_rate: Learning rate of the last iteration.
        images_per_second: Number of patches per second that all processes have trained on.
        seconds_left: Seconds until the end of the stage at this speed.
        shares: Shares of this process's time, 0 to 1: `data` (waiting for it), `degradation`,
            `generator`, `discriminator`, `validation`, `saving`.

    Example:
        >>> Logged("psnr", 100, 1000, {"pixel": 0.05}, 2e-4, 48.0, 300.0, {"data": 0.1}).losses
        {'pixel': 0.05}
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
    """Scores of bicubic interpolation in validation.

    Attributes:
        scores: Scores by validation set and metric.

    Example:
        >>> Baseline({"DIV2K": {"psnr": 26.7}}).scores["DIV2K"]["psnr"]
        26.7
    """

    scores: Scores


@dataclass(frozen=True, slots=True)
class Validated:
    """Scores of the averaged weights in validation.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done.
        scores: Scores by validation set and metric.

    Example:
        >>> Validated("psnr", 5000, {"DIV2K": {"psnr": 28.1}}).step
        5000
    """

    stage: str
    step: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class Saved:
    """A state is complete and flushed to disk.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done.
        path: Folder of the state.

    Example:
        >>> Saved("psnr", 5000, Path("run/states/psnr/00005000")).path.name
        '00005000'
    """

    stage: str
    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Exported:
    """Weights that `upscale -n` loads are written.

    Attributes:
        stage: Name of the stage.
        path: Path of the file.

    Example:
        >>> Exported("psnr", Path("run/mine-psnr.safetensors")).path.suffix
        '.safetensors'
    """

    stage: str
    path: Path


@dataclass(frozen=True, slots=True)
class Note:
    """A warning that does not stop the run.

    Attributes:
        text: The warning, in one line.

    Example:
        >>> Note("1.png: damaged").text
        '1.png: damaged'
    """

    text: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A stage resumes with settings that were allowed to change.

    Attributes:
        stage: Name of the stage.
        step: Number of iterations done before.
        changes: The changes, for example "stages.0.batch was 4 and is 8".

    Example:
        >>> Changed("psnr", 5000, ("stages.0.batch was 4 and is 8",)).step
        5000
    """

    stage: str
    step: int
    changes: tuple[str, ...]


Event = StageStarted | Stepped | Logged | Baseline | Validated | Saved | Exported | Note | Changed
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
    Changed: "changed",
}
_JSON_KEYS = {"scores": "figures"}
"""Keys in JSON that differ from the attributes; scripts depend on them."""


def as_record(event: Event) -> dict[str, Any]:
    """Return an event as plain values for JSON; the key `event` names its kind.

    Args:
        event: Any event.

    Example:
        >>> as_record(Stepped("psnr", 1, 100))
        {'event': 'iteration', 'stage': 'psnr', 'step': 1, 'steps': 100}
    """
    values = {
        _JSON_KEYS.get(key, key): str(value) if isinstance(value, Path) else value
        for key, value in asdict(event).items()
    }
    return {"event": _NAMES[type(event)], **values}
