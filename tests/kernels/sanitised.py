"""Random layers through kernels that were compiled with sanitisers.

sanitised.py FOLDER ABILITY CASES SEED      prints the number of cases
sanitised.py FOLDER ABILITY overflow        overflows a buffer, which must be reported
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch

from tests.kernels.layers import in_double, random_layer
from upscale.kernels import compiled
from upscale.kernels.compiled import Library, compiled_layer


def view(shape: tuple[int, ...], dtype: torch.dtype, *, margin: int, spare: int) -> torch.Tensor:
    """Return random channels-last values inside a larger tensor, whose edges are its allocation."""
    _, channels, height, width = shape
    base = torch.rand(1, height + 2 * margin, width + 2 * margin, channels + spare) - 0.5
    inner = base.to(dtype)[:, margin : margin + height, margin : margin + width, :channels]
    return inner.permute(0, 3, 1, 2)


def one_case(library: Library, generator: torch.Generator) -> None:
    """Compute a random layer and compare it with torch."""
    pick, dtype = random.choice, library.dtype
    torch.set_num_threads(pick([1, 1, 2, 3, 5]))
    compiled.PIXELS_EACH = pick([1, 16, 1152])
    channels = [16 * random.randint(1, 4) for _ in range(random.randint(1, 5))]
    if random.random() < 0.15:
        channels = [pick([1, 3, 4, 12])]  # an image
    outputs, padding, upsample = (
        pick([1, 3, 4, 12, 16, 17, 31, 33, 48, 65]),
        pick([0, 1]),
        pick([1, 2]),
    )
    height, width = pick([3, 4, 5, 8, 13, 17, 31]), pick([3, 4, 5, 7, 9, 16, 33])
    layer = random_layer(
        generator,
        sum(channels),
        outputs,
        pick(["none", "one", "each"]),
        padding=padding,
        upsample=upsample,
        scale=pick([1.0, 0.2]),
        reusable=random.random() < 0.3,
    )
    layer.convolution.to(dtype)
    edge = 2 * padding - 2
    extent = (1, outputs, height * upsample + edge, width * upsample + edge)

    def tensor(shape: tuple[int, ...]) -> torch.Tensor:
        return view(shape, dtype, margin=pick([0, 0, 1, 3]), spare=pick([0, 0, 16]))

    maps = [tensor((1, count, height, width)) for count in channels]
    residuals = [tensor(extent) for _ in range(pick([0, 0, 1, 2]))]
    target = tensor(extent) if random.random() < 0.5 else None
    expected = in_double(layer)(
        [each.double() for each in maps], [each.double() for each in residuals]
    )
    result = compiled_layer(library, layer)(maps, residuals, target)
    difference = (result.double() - expected).abs().max().item()
    assert difference < 2e-2 * max(1.0, expected.abs().max().item()), (
        channels,
        outputs,
        difference,
    )


def main() -> None:
    folder, ability, cases = sys.argv[1:4]
    compiled.__file__ = str(Path(folder, "compiled.py"))
    library = Library.load(ability)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(5)
    if cases == "overflow":
        compiled.Library.workspace_size = lambda *_: 16
        cases = "5"
    random.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    for _ in range(int(cases)):
        one_case(library, generator)
    print(cases)


if __name__ == "__main__":
    main()
