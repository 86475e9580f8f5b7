"""Losses that compare what a classification network sees: perceptual and style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_training.losses.precision import widened
from upscale_training.networks.backbone import Backbone

Distance = Literal["l1", "l2", "frobenius"]
"""Mean absolute difference, mean squared difference, or the Frobenius norm over the batch."""

Features = Mapping[str, Tensor]

REAL_ESRGAN_LAYERS = {
    "conv1_2": 0.1,
    "conv2_2": 0.1,
    "conv3_4": 1.0,
    "conv4_4": 1.0,
    "conv5_4": 1.0,
}
"""Layers of VGG19 and their weights, before activation: Real-ESRGAN (arXiv 2107.10833), 4.1."""

ESRGAN_LAYERS = {"conv5_4": 1.0}
"""VGG54 before activation: ESRGAN (arXiv 1809.00219), section 3.3."""


def perceptual(
    output: Features,
    target: Features,
    weights: Mapping[str, float],
    distance: Distance = "l1",
    *,
    relative: bool = False,
) -> Tensor:
    """Return the weighted sum of the layers' differences.

    L_percep of ESRGAN (arXiv 1809.00219, equation 3), over several layers as in Real-ESRGAN
    (arXiv 2107.10833, section 4.1); after Johnson et al. (arXiv 1603.08155, equation 2), who
    take squares. Whether it is before or after activation is a matter of which layers it gets.

    Args:
        output: a backbone's features of the network's result, (N, C, H, W) each.
        target: its features of the true image.
        weights: of the layers to compare.
        distance: between two features.
        relative: divide each layer's difference by the same measure of the target itself, so
            that weights mean the same for backbones whose features differ in scale.
    """
    terms = [
        weight * _difference(widened(output[layer]), widened(target[layer]), distance, relative)
        for layer, weight in weights.items()
    ]
    return torch.stack(terms).sum()


def gram(features: Tensor) -> Tensor:
    """Return how the channels of (N, C, H, W) go together: (N, C, C).

    Johnson et al. (arXiv 1603.08155), equation 3.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = widened(features).flatten(2)
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def style(
    output: Features,
    target: Features,
    weights: Mapping[str, float],
    distance: Distance = "l1",
    *,
    relative: bool = False,
) -> Tensor:
    """Return the weighted sum of the differences of the layers' Gram matrices.

    Johnson et al. (arXiv 1603.08155), equation 4, who take the squared Frobenius norm; arguments
    as for `perceptual`.
    """
    terms = [
        weight * _difference(gram(output[layer]), gram(target[layer]), distance, relative)
        for layer, weight in weights.items()
    ]
    return torch.stack(terms).sum()


def _difference(ours: Tensor, theirs: Tensor, kind: Distance, relative: bool) -> Tensor:
    difference = _distance(ours, theirs, kind)
    if not relative:
        return difference
    size = _distance(theirs, torch.zeros_like(theirs), kind)
    return difference / size.clamp_min(torch.finfo(size.dtype).eps)


def _distance(ours: Tensor, theirs: Tensor, kind: Distance) -> Tensor:
    if kind == "l1":
        return F.l1_loss(ours, theirs)
    if kind == "l2":
        return F.mse_loss(ours, theirs)
    return torch.linalg.vector_norm(ours - theirs)


@dataclass(frozen=True, slots=True)
class FeatureTerms:
    """What a `FeatureLoss` gives, weighted.

    Attributes:
        perceptual: a scalar, or None where its weight is 0.
        style: a scalar, or None where its weight is 0.
    """

    perceptual: Tensor | None
    style: Tensor | None


class FeatureLoss(nn.Module):
    """Perceptual and style loss through one backbone, which looks at each image once.

    Args:
        backbone: with all of the layers.
        layers: to compare, with their weights.
        perceptual_weight: factor of the perceptual term; 0 leaves it out.
        style_weight: factor of the style term; 0 leaves it out.
        distance: between two features.
        relative: as for `perceptual`.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Mapping[str, float],
        *,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        distance: Distance = "l1",
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = dict(layers)
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.distance: Distance = distance
        self.relative = relative

    def forward(self, output: Tensor, target: Tensor) -> FeatureTerms:
        """Compare (N, 3, H, W), RGB in [0, 1], with the same; no gradient goes to the target."""
        ours = self.backbone(output)
        with torch.no_grad():
            theirs = self.backbone(target)
        return FeatureTerms(
            self._term(perceptual, self.perceptual_weight, ours, theirs),
            self._term(style, self.style_weight, ours, theirs),
        )

    def _term(
        self, loss: Callable[..., Tensor], weight: float, ours: Features, theirs: Features
    ) -> Tensor | None:
        if weight == 0:
            return None
        return weight * loss(ours, theirs, self.layers, self.distance, relative=self.relative)
