"""Random layers, reference results, and tensors surrounded by NaN."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from upscale.models.layers import Layer, torch_layer


def random_layer(generator, inputs, outputs, slope="none", **options):
    convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)
    for parameter in convolution.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / (9 * inputs) ** 0.5)
    slopes = {"none": 1.0, "one": 0.2, "each": torch.rand(outputs, generator=generator)}
    return Layer(convolution, slope=slopes[slope], **options)


def in_double(layer):
    slope = layer.slope.double() if isinstance(layer.slope, torch.Tensor) else layer.slope
    convolution = copy.deepcopy(layer.convolution).double()
    return torch_layer(replace(layer, convolution=convolution, slope=slope))


def within_nan(tensor, margin=3):
    """Return a larger tensor of NaN, and the values as a channels-last view in its middle."""
    _, channels, height, width = tensor.shape
    shape = height + 2 * margin, width + 2 * margin, channels + 16
    surroundings = torch.full(shape, torch.nan, dtype=tensor.dtype)
    view = surroundings[margin : margin + height, margin : margin + width, :channels]
    view.copy_(tensor[0].permute(1, 2, 0))
    return surroundings, view.permute(2, 0, 1)[None]
