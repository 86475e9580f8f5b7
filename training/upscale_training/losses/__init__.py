"""Losses: plain functions of tensors, and thin objects with their weights.

All losses compute in at least single precision, even under autocast.
"""

from __future__ import annotations

from upscale_training.losses.adversarial import (
    AdversarialLoss,
    DiscriminatorTerms,
    GanKind,
    discriminator_terms,
    generator_term,
    gradient_penalty,
    relativistic_discriminator_terms,
    relativistic_generator_term,
)
from upscale_training.losses.dists import DistsLoss
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
from upscale_training.losses.gradients import gradient_weighted, ldl
from upscale_training.losses.pixels import (
    PixelLoss,
    charbonnier,
    l1,
    register_loss,
    unregister_loss,
)
from upscale_training.losses.structure import focal_frequency, ms_ssim

__all__ = [
    "ESRGAN_LAYERS",
    "REAL_ESRGAN_LAYERS",
    "AdversarialLoss",
    "DiscriminatorTerms",
    "Distance",
    "DistsLoss",
    "FeatureLoss",
    "FeatureTerms",
    "GanKind",
    "PixelLoss",
    "charbonnier",
    "discriminator_terms",
    "focal_frequency",
    "generator_term",
    "gradient_penalty",
    "gradient_weighted",
    "gram",
    "l1",
    "ldl",
    "ms_ssim",
    "perceptual",
    "register_loss",
    "relativistic_discriminator_terms",
    "relativistic_generator_term",
    "style",
    "unregister_loss",
]
