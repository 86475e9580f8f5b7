"""Registry of metrics: everything that measures images finds its metrics here by name.

The metrics that ship with `upscale` are registered by `upscale.metrics.builtin`. Another metric is
added by one call of `register`, from any module; `upscale eval --metrics NAME` and recipes of the
training package accept its name from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from upscale.metrics.samples import Pixels


class Measure(Protocol):
    """A loaded metric: a function from an image to its score."""

    def __call__(self, pixels: Pixels, reference: Pixels | None, border: int) -> float:
        """Return the score of an image; metrics that need no reference ignore it.

        Raises:
            MetricError: The metric cannot be computed for this image.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """Files and devices that perceptual metrics need.

    Attributes:
        folder: Folder with files that the user has downloaded, or None.
        device: Function that returns the torch device, for example `cuda:0`; it is called once the
            files of a metric are found.

    Example:
        >>> from upscale.metrics import Resources
        >>> Resources().device()
        'cpu'
    """

    folder: Path | None = None
    device: Callable[[], str] = lambda: "cpu"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and how it is loaded.

    Attributes:
        name: Name for `--metrics` and recipes, for example `psnr-y`.
        title: Name in tables.
        paired: Whether the metric needs a reference (full-reference metric).
        better: Whether more or less is better.
        digits: Number of decimals in tables.
        implementation: One line on the implementation, for reports.
        load: Function that loads the metric. It raises DependencyError for a missing file or
            package, and CheckpointError for a wrong file.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import Metric, Resources
        >>> def load(resources):
        ...     return lambda pixels, reference, border: float(pixels.mean())
        >>> metric = Metric("mean", "Mean", False, "more", 1, "mean of all samples", load)
        >>> metric.load(Resources())(np.ones((2, 2)), None, 0)
        1.0
    """

    name: str
    title: str
    paired: bool
    better: Literal["more", "less"]
    digits: int
    implementation: str
    load: Callable[[Resources], Measure]


_METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> None:
    """Add a metric to the registry.

    Args:
        metric: The metric; its name must not be in use.

    Raises:
        ValueError: A metric of this name is already registered.

    Example:
        >>> from upscale.metrics import Metric, metric_names, register, unregister
        >>> def load(resources):
        ...     return lambda pixels, reference, border: float(pixels.max())
        >>> register(Metric("brightest", "Max", False, "more", 0, "largest sample", load))
        >>> metric_names()[-1]
        'brightest'
        >>> unregister("brightest")
    """
    if metric.name in _METRICS:
        raise ValueError(f"a metric named {metric.name!r} is already registered")
    _METRICS[metric.name] = metric


def unregister(name: str) -> None:
    """Remove a metric from the registry.

    Args:
        name: Name of the metric.

    Raises:
        KeyError: No metric of this name is registered.

    Example:
        >>> from upscale.metrics import unregister
        >>> unregister("no such metric")
        Traceback (most recent call last):
        KeyError: 'no such metric'
    """
    del _METRICS[name]


def metrics() -> Mapping[str, Metric]:
    """Return all registered metrics by name, in the order in which tables show them.

    Example:
        >>> from upscale.metrics import metrics
        >>> metrics()["psnr"].better
        'more'
    """
    return MappingProxyType(_METRICS)


def metric_names() -> tuple[str, ...]:
    """Return the names of all registered metrics, in the order in which tables show them.

    Example:
        >>> from upscale.metrics import metric_names
        >>> metric_names()[:2]
        ('psnr', 'psnr-y')
    """
    return tuple(_METRICS)
