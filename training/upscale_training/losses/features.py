"""Losses that compare the features of a classification network: perceptual and style loss."""

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
    """Return the weighted sum of the differences of layers.

    L_percep of ESRGAN (arXiv 1809.00219, equation 3), over several layers as in Real-ESRGAN
    (arXiv 2107.10833, section 4.1); after Johnson et al. (arXiv 1603.08155, equation 2), who use
    squares. The choice of layers decides if features are compared before or after activation.

    Args:
        output: Features of the network's output by layer, (N, C, H, W) each.
        target: Features of the ground truth by layer.
        weights: Weights of the layers to compare.
        distance: Distance between two features.
        relative: Whether to divide the difference of each layer by the same measure of the target,
            so that weights mean the same for backbones whose features differ in scale.

    Example:
        >>> import torch
        >>> output, target = ({"conv1_2": torch.full((1, 4, 2, 2), value)} for value in (1.0, 3.0))
        >>> perceptual(output, target, {"conv1_2": 0.1})
        tensor(0.2000)
    """
    terms = [
        weight * _difference(widened(output[layer]), widened(target[layer]), distance, relative)
        for layer, weight in weights.items()
    ]
    return torch.stack(terms).sum()


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices (N, C, C) of the channels of (N, C, H, W).

    Johnson et al. (arXiv 1603.08155), equation 3.

    Args:
        features: Tensor of shape (N, C, H, W).

    Example:
        >>> import torch
        >>> gram(torch.ones(1, 2, 4, 4))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
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
    """Return the weighted sum of the differences of Gram matrices.

    Johnson et al. (arXiv 1603.08155), equation 4, who use the squared Frobenius norm.

    Args:
        output: Features of the network's output by layer, (N, C, H, W) each.
        target: Features of the ground truth by layer.
        weights: Weights of the layers to compare.
        distance: Distance between two Gram matrices.
        relative: Whether to divide by the measure of the target; see `perceptual`.

    Example:
        >>> import torch
        >>> features = {"conv1_2": torch.rand(1, 4, 2, 2)}
        >>> style(features, features, {"conv1_2": 1.0})
        tensor(0.)
    """
    terms = [
        weight * _difference(gram(output[layer]), gram(target[layer]), distance, relative)
        for layer, weight in weights.items()
    ]
    return torch.stack(terms).sum()


def _difference(output: Tensor, target: Tensor, kind: Distance, relative: bool) -> Tensor:
    difference = _distance(output, target, kind)
    if not relative:
        return difference
    size = _distance(target, torch.zeros_like(target), kind)
    return difference / size.clamp_min(torch.finfo(size.dtype).eps)


def _distance(output: Tensor, target: Tensor, kind: Distance) -> Tensor:
    if kind == "l1":
        return F.l1_loss(output, target)
    if kind == "l2":
        return F.mse_loss(output, target)
    return torch.linalg.vector_norm(output - target)


@dataclass(frozen=True, slots=True)
class FeatureTerms:
    """The weighted terms of a `FeatureLoss`.

    Attributes:
        perceptual: Scalar, or None if its weight is 0.
        style: Scalar, or None if its weight is 0.

    Example:
        >>> import torch
        >>> FeatureTerms(perceptual=torch.tensor(1.0), style=None).perceptual
        tensor(1.)
    """

    perceptual: Tensor | None
    style: Tensor | None


class FeatureLoss(nn.Module):
    """Perceptual and style loss that share one pass through a backbone.

    Args:
        backbone: Network that returns the layers.
        layers: Weights of the layers to compare.
        perceptual_weight: Factor of the perceptual term; 0 disables it.
        style_weight: Factor of the style term; 0 disables it.
        distance: Distance between two features.
        relative: Whether to divide by the measure of the target; see `perceptual`.
        shift: Largest number of rows and of columns that are cut off at random, the same of both
            images. The grid of the backbone's poolings then has no fixed position in the image,
            and leaves no pattern in the output.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from upscale_training.networks import Normalisation
        >>> layers = nn.Sequential()
        >>> layers.add_module("conv1_1", nn.Conv2d(3, 4, 3))
        >>> loss = FeatureLoss(Backbone(layers, ["conv1_1"], Normalisation()), {"conv1_1": 1.0})
        >>> image = torch.rand(1, 3, 8, 8)
        >>> loss(image, image).perceptual
        tensor(0.)
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
        shift: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = dict(layers)
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.distance: Distance = distance
        self.relative = relative
        self.shift = shift

    def forward(self, output: Tensor, target: Tensor) -> FeatureTerms:
        """Compare two tensors (N, 3, H, W), RGB in [0, 1]; the target gets no gradient."""
        if self.shift:
            rows, columns = torch.randint(self.shift + 1, (2,)).tolist()
            output, target = output[..., rows:, columns:], target[..., rows:, columns:]
        output_features = self.backbone(output)
        with torch.no_grad():
            target_features = self.backbone(target)
        return FeatureTerms(
            self._term(perceptual, self.perceptual_weight, output_features, target_features),
            self._term(style, self.style_weight, output_features, target_features),
        )

    def _term(
        self, loss: Callable[..., Tensor], weight: float, output: Features, target: Features
    ) -> Tensor | None:
        if weight == 0:
            return None
        return weight * loss(output, target, self.layers, self.distance, relative=self.relative)
