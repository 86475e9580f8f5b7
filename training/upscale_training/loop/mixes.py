"""Mixtures of the pairs of a batch: MixUp, CutMix and CutBlur.

Yoo, Ahn and Sohn, "Rethinking Data Augmentation for Image Super-resolution" (arXiv 2004.00448),
compare them for super-resolution.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.recipe import MixSettings

ALPHA = 1.2
"""Both parameters of the beta distribution of the shares of MixUp."""

SIDES = (0.1, 0.7)
"""Range of the sides of rectangles, as shares of a patch."""

Rectangle = tuple[int, int, int, int]
"""Top, left, height and width in LR pixels."""


def mixed(
    lr: Tensor, hr: Tensor, settings: MixSettings, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the pairs of a batch, mixed or as they are.

    Args:
        lr: Tensor of shape (N, C, P / scale, P / scale), float in 0..1.
        hr: Tensor of shape (N, C, P, P).
        settings: Probabilities of the mixtures.
        random: Source of all decisions.

    Example:
        >>> lr, hr = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
        >>> mixed(lr, hr, MixSettings(), np.random.default_rng(0))[0] is lr
        True
    """
    choice = random.random()
    if choice < settings.mixup:
        return _mixup(lr, hr, random)
    choice -= settings.mixup
    if choice < settings.cutmix:
        return _cutmix(lr, hr, random)
    if choice - settings.cutmix < settings.cutblur:
        return _cutblur(lr, hr, random), hr
    return lr, hr


def _mixup(lr: Tensor, hr: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    share = float(random.beta(ALPHA, ALPHA))
    order = _order(len(lr), random)
    return torch.lerp(lr[order], lr, share), torch.lerp(hr[order], hr, share)


def _cutmix(lr: Tensor, hr: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    order, rectangle = _order(len(lr), random), _rectangle(lr, random)
    scale = hr.shape[-1] // lr.shape[-1]
    return _pasted(lr, lr[order], rectangle, 1), _pasted(hr, hr[order], rectangle, scale)


def _cutblur(lr: Tensor, hr: Tensor, random: np.random.Generator) -> Tensor:
    """Return LR images with a rectangle of the HR images, reduced by area averaging.

    The paper pastes into an LR image of the size of the HR image, which these networks do not read.
    """
    reduced = F.interpolate(hr, size=lr.shape[-2:], mode="area")
    return _pasted(lr, reduced, _rectangle(lr, random), 1)


def _order(count: int, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.permutation(count))


def _rectangle(lr: Tensor, random: np.random.Generator) -> Rectangle:
    height, width = (max(1, round(side * random.uniform(*SIDES))) for side in lr.shape[-2:])
    top = int(random.integers(lr.shape[-2] - height + 1))
    left = int(random.integers(lr.shape[-1] - width + 1))
    return top, left, height, width


def _pasted(images: Tensor, others: Tensor, rectangle: Rectangle, scale: int) -> Tensor:
    top, left, height, width = (scale * each for each in rectangle)
    rows, columns = slice(top, top + height), slice(left, left + width)
    result = images.clone()
    result[:, :, rows, columns] = others[:, :, rows, columns]
    return result
