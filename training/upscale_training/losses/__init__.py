"""Losses: plain functions of tensors, and thin objects that hold their weights.

All of them compute in at least single precision, whatever autocast gives them.
"""

from __future__ import annotations

from upscale_training.losses.adversarial import (
    AdversarialLoss,
    DiscriminatorTerms,
    GanKind,
    discriminator_terms,
    generator_term,
    relativistic_discriminator_terms,
    relativistic_generator_term,
)
from upscale_training.losses.features import (
    ESRGAN_LAYERS,
    REAL_ESRGAN_LAYERS,
    Distance,
    FeatureLoss,
    FeatureTerms,
    gram,
    perceptual,
    style,
)
from upscale_training.losses.pixels import PixelKind, PixelLoss, charbonnier, l1

__all__ = [
    "ESRGAN_LAYERS",
    "REAL_ESRGAN_LAYERS",
    "AdversarialLoss",
    "DiscriminatorTerms",
    "Distance",
    "FeatureLoss",
    "FeatureTerms",
    "GanKind",
    "PixelKind",
    "PixelLoss",
    "charbonnier",
    "discriminator_terms",
    "generator_term",
    "gram",
    "l1",
    "perceptual",
    "relativistic_discriminator_terms",
    "relativistic_generator_term",
    "style",
]
