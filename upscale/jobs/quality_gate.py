"""Quality gate: whether a network does no harm to clean images, compared with bicubic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from upscale.jobs.evaluation import Scores, mean_scores
from upscale.metrics import Metric, metrics

GATE_CHAIN = "classical"
"""Degradation chain on which networks are compared: downscaling alone, no noise or artefacts."""

REQUIRED = ("psnr-y", "st-lpips")
TEXT = "text"

TEXT_MARGIN = 0.02
"""A network's character error rate may be this much above that of bicubic."""

LEGIBLE = 0.2
"""Text counts where the character error rate of bicubic is at most this."""

# At scale 1, bicubic returns the original, which nothing is better than.
_LIMITS_X1 = {"psnr-y": 34.0, "st-lpips": 0.1}


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One condition of the gate.

    Attributes:
        metric: Name of the metric.
        value: Mean of the network; None if it was not measured.
        limit: Worst mean that passes: that of bicubic, at scale 1 a constant.
        images: Number of images.
    """

    metric: str
    value: float | None
    limit: float
    images: int

    @property
    def passed(self) -> bool:
        """Whether the network's mean is within the limit."""
        if self.value is None:
            return False
        if metrics()[self.metric].better == "more":
            return self.value >= self.limit
        return self.value <= self.limit

    def __str__(self) -> str:
        """Return the failure as text."""
        metric = metrics()[self.metric]
        if self.value is None:
            return f"{metric.title} was not measured"
        verb = "below" if metric.better == "more" else "above"
        limit = f"the limit of {_format(self.limit, metric)}"
        return f"{metric.title} {_format(self.value, metric)} is {verb} {limit}"


@dataclass(frozen=True, slots=True)
class GateResult:
    """Result of the gate for one network.

    Attributes:
        version: Name of the network.
        checks: Its conditions.
    """

    version: str
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all conditions hold."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[GateCheck]:
        """Conditions that do not hold."""
        return [check for check in self.checks if not check.passed]


def gate_results(
    scores: Iterable[Scores], versions: Sequence[str], *, baseline: str, scale: int
) -> list[GateResult]:
    """Compare networks with bicubic on clean images.

    On the chain `classical`, a network must not be worse than bicubic in mean PSNR-Y and in mean
    ST-LPIPS. Where bicubic leaves text legible, its character error rate must not be more than 0.02
    above that of bicubic. At scale 1 the original is the network's input, so the limits are
    constants: 34 dB, 0.1 and 0.02.

    Args:
        scores: Scores of all versions; those of other chains are ignored.
        versions: Names of the networks.
        baseline: Name of bicubic among the versions.
        scale: Downscaling factor of the test set.

    Returns:
        The results in the order of the networks.
    """
    clean = [one for one in scores if one.item.chain == GATE_CHAIN and one.error is None]
    return [GateResult(name, _checks(clean, name, baseline, scale)) for name in versions]


def _checks(clean: Sequence[Scores], name: str, baseline: str, scale: int) -> tuple[GateCheck, ...]:
    means = mean_scores(clean)
    ours, theirs = means.get(name, {}), means.get(baseline, {})
    count = sum(one.item.version == name for one in clean)
    checks = [
        GateCheck(metric, ours.get(metric), _LIMITS_X1[metric], count)
        if scale == 1
        else GateCheck(metric, ours.get(metric), theirs[metric], count)
        for metric in REQUIRED
        if scale == 1 or metric in theirs
    ]
    return (*checks, *_text_check(clean, name, baseline))


def _text_check(clean: Sequence[Scores], name: str, baseline: str) -> list[GateCheck]:
    """Compare the text of images in which bicubic leaves it legible; empty without such images."""
    rates = {
        (one.item.version, one.item.image): one.values[TEXT] for one in clean if TEXT in one.values
    }
    legible = [
        image for (version, image), rate in rates.items() if version == baseline and rate <= LEGIBLE
    ]
    if not legible:
        return []
    limit = fmean(rates[baseline, image] for image in legible) + TEXT_MARGIN
    found = [rates[name, image] for image in legible if (name, image) in rates]
    value = fmean(found) if len(found) == len(legible) else None
    return [GateCheck(TEXT, value, limit, len(legible))]


def _format(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}"
