"""Stand-ins for GPUs and for the Triton kernels, which compute on a CPU without Triton."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from upscale.kernels.tile_configs import Card
from upscale.kernels.triton_conv import Kernels, KernelUse
from upscale.kernels.verdicts import Verdict

SHARED_MEMORY = {
    (8, 0): 166912, (8, 6): 101376, (8, 9): 101376,
    (9, 0): 232448, (10, 0): 232448, (12, 0): 101376,
}  # fmt: skip
"""Shared memory that a program can have, by compute capability (CUDA C++ programming guide)."""


def card(major=9, minor=0, versions=("torch 1", "Triton 1")):
    capability = (major, minor)
    return Card(f"Card {major}.{minor}", capability, SHARED_MEMORY[capability], versions)


class StandIn:
    """Compute in fp32 what a kernel computes, from the arguments of its launch.

    `fault` changes the result or raises; `launches` counts.
    """

    def __init__(self, rows, fault=lambda x: x):
        self.rows, self.fault, self.launches = rows, fault, []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.run(arguments, options)

    def run(self, arguments, options):
        self.launches.append(options)
        first, second, weights, bias, slope, residual, other, target = arguments[:8]
        weight = unpacked(weights, options, self.rows)
        channels = options["first_channels"], options["second_channels"]
        outputs, upsample = options["outputs"], options["upsample"]
        result = bias[:outputs, None, None]
        for each, part, count in zip((first, second), weight, channels, strict=True):
            if count:
                x = each[:, :count].float().repeat_interleave(upsample, 2)
                x = x.repeat_interleave(upsample, 3)
                result = result + F.conv2d(x, part[:outputs, :count], padding=options["padding"])
        result = torch.where(result < 0, result * slope[:outputs, None, None], result)
        for added in (residual, other)[: options["residuals"]]:
            result = added.float() + arguments[-1] * result
        target.copy_(self.fault(result))


def unpacked(weights, options, rows):
    """Return the weights of each map as (outputs, channels, 3, 3), in fp32."""
    block, outputs = options["block_channels"], options["block_outputs"]
    parts, start = [], 0
    for channels in (options["first_channels"], options["second_channels"]):
        chunks = -(-channels // block)
        end = start + 9 * chunks * block * outputs
        part, start = weights[:, start:end].float(), end
        if rows == 1:
            part = part.unflatten(1, (3, 3, chunks * block, outputs)).permute(0, 4, 3, 1, 2)
        else:
            pair, right = part.unflatten(1, (chunks, 3, 3 * block * outputs)).split(
                [2 * block * outputs, block * outputs], 3
            )
            pair = pair.unflatten(3, (block, 2, outputs)).transpose(3, 4)
            columns = torch.cat([pair, right.unflatten(3, (1, block, outputs))], 3)
            part = columns.permute(0, 5, 1, 4, 2, 3).flatten(2, 3)
        parts.append(part.flatten(0, 1))
    return parts


def stand_in_kernels(fault=lambda x: x):
    return Kernels(StandIn(1, fault), StandIn(2, fault))


class OneConfig(dict):
    """Verdicts that name the same tile config for every shape."""

    def __init__(self, config):
        self.config = config

    def get(self, shape, default=None):
        return Verdict(self.config)


def use_of(kernels, config):
    """Return kernels that compute every layer with one tile config."""
    return KernelUse(kernels, OneConfig(config))
