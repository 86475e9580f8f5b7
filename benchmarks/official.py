"""The official networks and the official program's loop, written from their description.

They are what a user of Real-ESRGAN runs: plain PyTorch modules, one image at a time, tiles with a
padding of 10 pixels. Parameters are named as in the published checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import padded_tiles, to_levels
from upscale.engine.loading import Model
from upscale.models import RRDBSpec, SRVGGSpec


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the input and all results before it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 6):
            inputs, outputs = features + (number - 1) * growth, growth if number < 5 else features
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus a fifth of the last result."""
        maps = [x]
        for number in range(1, 5):
            result = self.get_submodule(f"conv{number}")(torch.cat(maps, 1))
            maps.append(F.leaky_relu(result, 0.2, inplace=True))
        return self.get_submodule("conv5")(torch.cat(maps, 1)) * 0.2 + x


class ResidualBlock(nn.Module):
    """Three dense blocks, scaled and added to their input."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 4):
            self.add_module(f"rdb{number}", DenseBlock(features, growth))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus a fifth of the result."""
        result = x
        for block in self.children():
            result = block(result)
        return result * 0.2 + x


class RRDBNet(nn.Module):
    """The network of RealESRGAN_x4plus and RealESRGAN_x2plus."""

    def __init__(self, spec: RRDBSpec) -> None:
        super().__init__()
        self.unshuffle = spec.unshuffle
        inputs, features = spec.in_channels * spec.unshuffle**2, spec.features
        self.conv_first = nn.Conv2d(inputs, features, 3, padding=1)
        blocks = (ResidualBlock(features, spec.growth) for _ in range(spec.blocks))
        self.body = nn.Sequential(*blocks)
        for name in ("body", "up1", "up2", "hr"):
            self.add_module(f"conv_{name}", nn.Conv2d(features, features, 3, padding=1))
        self.conv_last = nn.Conv2d(features, spec.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, C, H, W)."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.get_submodule("conv_body")(self.body(x))
        for name in ("conv_up1", "conv_up2"):
            large = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.leaky_relu(self.get_submodule(name)(large), 0.2, inplace=True)
        x = F.leaky_relu(self.get_submodule("conv_hr")(x), 0.2, inplace=True)
        return self.conv_last(x)


class SRVGG(nn.Module):
    """The compact network of realesr-animevideov3."""

    def __init__(self, spec: SRVGGSpec) -> None:
        super().__init__()
        self.scale = spec.scale
        last = spec.out_channels * spec.scale**2
        widths = [spec.in_channels, *[spec.features] * (spec.convolutions + 1)]
        layers = [
            layer
            for inputs, outputs in pairwise(widths)
            for layer in (nn.Conv2d(inputs, outputs, 3, padding=1), nn.PReLU(outputs))
        ]
        self.body = nn.ModuleList([*layers, nn.Conv2d(spec.features, last, 3, padding=1)])

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, C, H, W)."""
        result = x
        for layer in self.body:
            result = layer(result)
        large = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(result, self.scale) + large


def official_network(model: Model, device: str, dtype: torch.dtype) -> nn.Module:
    """Return the official network with the weights of a model."""
    spec = model.network.spec
    network = RRDBNet(spec) if isinstance(spec, RRDBSpec) else SRVGG(spec)
    network.load_state_dict(model.network.state_dict())
    return network.eval().requires_grad_(False).to(device, dtype)


@torch.inference_mode()
def enhance(network: nn.Module, image: np.ndarray, scale: int, tile: int) -> np.ndarray:
    """Upscale an (H, W, 3) uint8 image as the official program does; a tile of 0 is none."""
    parameter = next(network.parameters())
    values = torch.from_numpy(image.astype(np.float32) / 255)
    tensor = values.permute(2, 0, 1)[None].to(parameter.device, parameter.dtype)
    return to_levels(padded_tiles(network, tensor, tile, scale=scale)).numpy()
