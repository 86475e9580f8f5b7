"""Kernels compiled ahead of time for any card, with the compilers of Triton's wheel."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from upscale.kernels.tile_configs import WARPS, Shape, TileConfig

MATRIX = {8: "mma.sync", 9: "wgmma.mma_async", 10: "tcgen05.mma", 12: "mma.sync"}
"""Instructions of the matrix units, by major compute capability."""

TENSORS = ("first", "second", "weights", "residual", "other", "target")


@dataclass(frozen=True)
class Assembly:
    """What the compilers made of a kernel."""

    registers: int
    spills: int
    shared: int
    matrix_products: int


def compiled(
    kernel, capability: tuple[int, int], shape: Shape, config: TileConfig, *, precision: str
) -> Assembly:
    """Compile a kernel for aligned maps of a shape."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    first, second = (-(-each // 16) * 16 for each in shape.channels)
    constants = {
        "first_channels": first, "second_channels": second, "outputs": shape.outputs,
        "padding": shape.padding, "upsample": shape.upsample, "residuals": shape.residuals,
        "block_pixels": config.pixels, "block_channels": config.block_channels(shape),
        "block_outputs": config.block_outputs(shape.outputs),
        "blocks": config.blocks, "stages": config.stages,
    }  # fmt: skip
    signature, constexprs, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        kind, aligned = kind_of(name, shape, precision)
        if name in constants:
            constexprs[place,] = constants[name]
            kind, aligned = "constexpr", False
        signature[name] = kind
        if aligned:
            attributes[place,] = [["tt.divisibility", 16]]
    options = {"num_warps": WARPS, "num_stages": config.stages if config.rows == 1 else 3}
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    program = triton.compile(
        ASTSource(kernel, signature, constexprs, attributes), target=target, options=options
    )
    registers, spills = usage(program.asm["cubin"])
    count = program.asm["ptx"].count(MATRIX[capability[0]])
    return Assembly(registers, spills, program.metadata.shared, count)


def kind_of(name: str, shape: Shape, precision: str) -> tuple[str, bool]:
    """Return the type of an argument, and whether it is divisible by 16."""
    if name in {"bias", "slope"}:
        return "*fp32", True
    if name in TENSORS:
        return f"*{precision}", True
    if name == "scale":
        return "fp32", False
    if name in {"height", "width", "rows", "columns"}:
        return "i32", False
    return "i32", not (name.startswith(("target", "residual", "other")) and shape.outputs % 16)


def usage(program: bytes) -> tuple[int, int]:
    """Return the registers of a thread, and the instructions that spill registers to memory."""
    import triton

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(program)
        file.flush()
        listings = [
            subprocess.run(
                [tools / tool, option, file.name], capture_output=True, text=True, check=True
            ).stdout
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        ]
    (registers,) = re.findall(r"REG:(\d+)", listings[0])
    return int(registers), len(re.findall(r"\bSTL\b", listings[1]))
