"""Networks that only training needs: discriminators, and backbones of perceptual losses."""

from __future__ import annotations

from upscale_training.networks.backbone import Backbone, Normalisation, efficientnet_lite0, vgg
from upscale_training.networks.patch import PatchDiscriminator
from upscale_training.networks.unet import UNetDiscriminator
from upscale_training.networks.vgg_style import VGGStyleDiscriminator

__all__ = [
    "Backbone",
    "Normalisation",
    "PatchDiscriminator",
    "UNetDiscriminator",
    "VGGStyleDiscriminator",
    "efficientnet_lite0",
    "vgg",
]
