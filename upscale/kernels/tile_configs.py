"""How the work of a convolution is divided for a GPU, and which ways are worth trying on a card."""

from __future__ import annotations

from dataclasses import dataclass

WARPS = 4
"""Warps of a program, with 32 threads each. More than four share the operands of the matrix units,
and Triton lets some of them overwrite these too early (Triton issue 11047, closed in July 2026)."""

MAX_SUMS = WARPS * 32 * 64
"""Largest product of pixels, rows and outputs of a program: the registers hold 3 x 64 sums a
thread."""

SHARED_OPERANDS = (9, 10)
"""Major compute capabilities of the cards whose matrix units read from shared memory, which saves
registers."""

TENSOR_MEMORY = 10
"""Major compute capability of the cards whose matrix units write to a memory of their own. Triton
3.6 compiles the kernel with two rows to an empty program for them."""

SCRATCH_BYTES = 8704
"""Shared memory for shifting the sums of two rows by a pixel."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties of a layer that decide which kernel is the fastest.

    Attributes:
        channels: Channels of the first and of the second map; 0 for no second map.
        outputs: Channels of the result.
        padding: Padding of the layer, 0 or 1.
        upsample: Upsampling factor of the layer, 1 or 2.
        residuals: Number of residuals.
        precision: Precision of the maps, `float16` or `bfloat16`.
    """

    channels: tuple[int, int]
    outputs: int
    padding: int
    upsample: int
    residuals: int
    precision: str

    def __str__(self) -> str:
        first, second = self.channels
        inputs = f"{first}+{second}" if second else str(first)
        return (
            f"{inputs} to {self.outputs} channels, {self.precision}, padding {self.padding}, "
            f"upsampled {self.upsample}x, {self.residuals} residuals"
        )


@dataclass(frozen=True, slots=True)
class TileConfig:
    """How the work is divided into programs of the GPU.

    Attributes:
        pixels: Pixels of a program's block, a power of two; the outermost two are shared with the
            neighbouring blocks.
        channels: Channels that are read at a time, a power of two, at least 16.
        stages: Depth of the software pipeline: blocks that are loaded at once.
        rows: Output rows that a program computes at once: 1, or 2 with `triton_two_rows.py`.
        blocks: Blocks that a program with two rows computes one after the other.
    """

    pixels: int
    channels: int
    stages: int
    rows: int = 1
    blocks: int = 1

    def block_outputs(self, outputs: int) -> int:
        """Return the output channels that one program computes: a power of two, at least 16."""
        return min(max(1 << (outputs - 1).bit_length(), 16), 64 // self.rows)

    def block_channels(self, shape: Shape) -> int:
        """Return the channels that a program reads at a time from maps of a shape."""
        return min(self.channels, max(1 << (max(shape.channels) - 1).bit_length(), 16))


ONE_ROW = (TileConfig(128, 32, 4), TileConfig(128, 64, 3))
SHORT_ROW = TileConfig(64, 32, 4)
"""Replaces the second of `ONE_ROW` for more than 32 outputs, where that one runs out of registers:
compiled for compute capability 8.0, it writes up to 3,000 sums to memory."""

LONG_ROW = TileConfig(256, 32, 4)
"""For matrix units that read from shared memory. For others, compilers run out of registers, write
hundreds of sums to memory and read them back."""

TWO_ROWS = TileConfig(64, 32, 2, rows=2, blocks=8)
TWO_ROWS_UNSTAGED = TileConfig(64, 32, 1, rows=2, blocks=8)
"""Leaves shared memory for a second program on each multiprocessor."""

CONFIGS = (*ONE_ROW, SHORT_ROW, LONG_ROW, TWO_ROWS, TWO_ROWS_UNSTAGED)
"""All tile configs that any card tries."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU and the programs that compile and run its kernels.

    Attributes:
        name: Name of the GPU.
        capability: Compute capability.
        shared_memory: Largest shared memory of a program in bytes.
        versions: Versions of torch, Triton, ptxas and of the kernels' source.
    """

    name: str
    capability: tuple[int, int]
    shared_memory: int
    versions: tuple[str, ...] = ()

    def configs(self, shape: Shape) -> list[TileConfig]:
        """Return the tile configs to try; few, because each takes seconds to compile."""
        major, _ = self.capability
        reads_shared = major in SHARED_OPERANDS
        first, second = ONE_ROW
        configs = [first, second if second.block_outputs(shape.outputs) < 64 else SHORT_ROW]
        configs += [LONG_ROW] if reads_shared else []
        if major != TENSOR_MEMORY:
            configs += [TWO_ROWS, TWO_ROWS_UNSTAGED] if reads_shared else [TWO_ROWS]
        return [
            config
            for config in configs
            if config.pixels * config.rows * config.block_outputs(shape.outputs) <= MAX_SUMS
            and shared_bytes(config, shape, self.capability) <= self.shared_memory
        ]


def shared_bytes(config: TileConfig, shape: Shape, capability: tuple[int, int]) -> int:
    """Return the shared memory that a program with two rows needs; 0 for one, which always fits.

    The weights stay there, beside four rows of pixels for each stage that is loaded ahead. Matrix
    units that read from shared memory need one stage more.
    """
    if config.rows == 1:
        return 0
    block = config.block_channels(shape)
    channels = sum(-(-each // block) * block for each in shape.channels)
    reads_shared = capability[0] in SHARED_OPERANDS and config.stages > 1
    buffers = config.stages - (0 if reads_shared else 1)
    weights = 9 * channels * config.block_outputs(shape.outputs)
    return 2 * (weights + buffers * 4 * config.pixels * channels) + SCRATCH_BYTES
