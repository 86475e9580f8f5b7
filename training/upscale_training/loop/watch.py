"""A watch for colours that drift and outputs that turn flat, which no loss names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

SHIFT, CONTRAST = "shift", "contrast"
"""Names of the statistics in the log."""

MAX_SHIFT = 0.03
"""Difference of mean colours, in 0..1, below which nothing is reported: about 8 of 255 levels. A
drift is reported only if the difference was below it before."""

SHIFT_FACTOR = 3.0
"""Factor of the smallest difference so far, above which a drift is reported."""

HEALTHY_CONTRAST = 0.7
"""Contrast that outputs must have had before a collapse is reported; new networks are flat."""

LOST_CONTRAST = 0.5
"""Share of the largest contrast so far, below which a collapse is reported."""


def colour_statistics(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return how far colours and contrast of an output are from the ground truth.

    Args:
        output: Tensor of shape (N, C, H, W) in 0..1, not clamped.
        target: Ground truth of the same shape.

    Returns:
        `shift`, the mean difference of the mean colours of images and channels, and `contrast`, the
        standard deviation of an output inside its channels, divided by that of its ground truth.
        Both are means of the images, so that those of several processes can be averaged.

    Example:
        >>> import torch
        >>> image = torch.rand(2, 3, 8, 8)
        >>> found = colour_statistics(0.5 * image + 0.25, image)
        >>> round(found["contrast"].item(), 3)
        0.5
    """
    output, target = output.float(), target.float()
    shift = (output.mean((2, 3)) - target.mean((2, 3))).abs().mean()
    ours, theirs = (each.std((2, 3)).mean(1) for each in (output, target))
    return {SHIFT: shift, CONTRAST: (ours / theirs.clamp_min(1e-3)).mean()}


@dataclass(slots=True)
class CollapseWatch:
    """Compares the statistics of each log with the best ones of the stage so far.

    Attributes:
        smallest_shift: Smallest difference of colours so far.
        largest_contrast: Largest contrast so far, at most that of the ground truth.

    Example:
        >>> watch = CollapseWatch()
        >>> watch.check({"shift": 0.01, "contrast": 0.9})
        []
        >>> watch.check({"shift": 0.01, "contrast": 0.2})
        ["outputs turn flat: contrast is 0.20 of the ground truth's, and was 0.90 before"]
    """

    smallest_shift: float = float("inf")
    largest_contrast: float = 0.0

    def check(self, means: Mapping[str, float]) -> list[str]:
        """Return warnings for the means since the last log, one line each.

        Args:
            means: Means of the losses and of the statistics.
        """
        notes: list[str] = []
        shift, contrast = means.get(SHIFT), means.get(CONTRAST)
        if shift is not None:
            smallest = self.smallest_shift
            if smallest <= MAX_SHIFT and shift > max(MAX_SHIFT, SHIFT_FACTOR * smallest):
                notes.append(
                    f"colours drift: means differ by {shift:.3f} from the ground truth, and "
                    f"differed by {self.smallest_shift:.3f} before"
                )
            self.smallest_shift = min(self.smallest_shift, shift)
        if contrast is not None:
            largest = self.largest_contrast
            if largest >= HEALTHY_CONTRAST and contrast < LOST_CONTRAST * largest:
                notes.append(
                    f"outputs turn flat: contrast is {contrast:.2f} of the ground truth's, "
                    f"and was {self.largest_contrast:.2f} before"
                )
            self.largest_contrast = max(self.largest_contrast, min(contrast, 1.0))
        return notes
