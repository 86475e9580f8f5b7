"""Networks that only training needs: discriminators, and what perceptual losses look through."""

from __future__ import annotations

from training.networks.backbone import Backbone, Normalisation, efficientnet_lite0, vgg
from training.networks.patch import PatchDiscriminator
from training.networks.unet import UNetDiscriminator
from training.networks.vgg_style import VGGStyleDiscriminator

__all__ = [
    "Backbone",
    "Normalisation",
    "PatchDiscriminator",
    "UNetDiscriminator",
    "VGGStyleDiscriminator",
    "efficientnet_lite0",
    "vgg",
]
