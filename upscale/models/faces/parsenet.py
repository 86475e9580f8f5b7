"""ParseNet, which labels the parts of an aligned face: skin, eyes, hair, clothes and others.

From Chen, Li, Yang, Lin, Zhang and Wong, "Progressive Semantic-Aware Style Transformation for Blind
Face Restoration", 2021. The names of the layers are those of the checkpoint that facexlib uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

LABELS = 19
"""Number of labels; 0 is the background."""

_OF_PARSENET = "out_mask_conv.conv2d.weight"
_WIDTHS = (64, 128, 256, 256, 256)
"""Channels at the full size, its half, and so on."""

_BLOCKS = 10
"""Residual blocks at the smallest size."""


class ParseNet(nn.Module):
    """Label the parts of a face."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(_WIDTHS))
        down = [_Block(outer, inner, "down") for outer, inner in pairs]
        up = [_Block(inner, outer, "up") for outer, inner in reversed(pairs)]
        self.encoder = nn.Sequential(_Layer(3, _WIDTHS[0]), *down)
        self.body = nn.Sequential(*(_Block(_WIDTHS[-1], _WIDTHS[-1]) for _ in range(_BLOCKS)))
        self.decoder = nn.Sequential(*up)
        self.out_img_conv = _Layer(_WIDTHS[0], 3)  # in the checkpoint, and not used
        self.out_mask_conv = _Layer(_WIDTHS[0], LABELS)

    def forward(self, faces: Tensor) -> Tensor:
        """Return the score of each label for each pixel.

        Args:
            faces: Aligned faces of shape (N, 3, H, W), RGB, -1..1; H and W are multiples of 16.

        Returns:
            Scores of shape (N, 19, H, W).
        """
        features = self.encoder(faces)
        features = self.decoder(features + self.body(features))
        scores: Tensor = self.out_mask_conv(features)
        return scores


def build_parsenet(state: Mapping[str, Tensor]) -> ParseNet | None:
    """Return the network whose state dict this is, without its values; None for other networks."""
    return ParseNet() if _OF_PARSENET in state else None


class _Layer(nn.Module):
    """Convolve 3x3 with reflected borders, at the same, the double or half the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        change: str = "",
        *,
        norm: bool = False,
        active: bool = False,
    ) -> None:
        super().__init__()
        self._is_up, self._is_active = change == "up", active
        stride = 2 if change == "down" else 1
        self.conv2d = nn.Conv2d(inputs, outputs, 3, stride, bias=not norm)
        # Normalisation is one level deeper in the checkpoint.
        self.norm = nn.ModuleDict({"norm": nn.BatchNorm2d(outputs)} if norm else {})

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolved feature map."""
        if self._is_up:
            features = F.interpolate(features, scale_factor=2)
        features = self.conv2d(F.pad(features, (1, 1, 1, 1), mode="reflect"))
        for norm in self.norm.values():
            features = norm(features)
        return F.leaky_relu(features, 0.2) if self._is_active else features


class _Block(nn.Module):
    """Residual block of two layers, one of which may change the size."""

    def __init__(self, inputs: int, outputs: int, change: str = "") -> None:
        super().__init__()
        first, second = ("up", "") if change == "up" else ("", change)
        self.shortcut_func = _Layer(inputs, outputs, change) if change else nn.Identity()
        self.conv1 = _Layer(inputs, outputs, first, norm=True, active=True)
        self.conv2 = _Layer(outputs, outputs, second, norm=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of the layers and the shortcut."""
        return self.shortcut_func(features) + self.conv2(self.conv1(features))
