"""Trial of the kernels on a card: in another process, because a bad kernel ruins its process.

After an illegal access, every later call of CUDA fails in the same process. The other process
measures one candidate after the other and writes each result to a file. If it ends early, the
candidate without a result is the bad one, and a new process continues after it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pydantic import TypeAdapter
from torch import Tensor

from upscale.files.error_mapping import one_line
from upscale.kernels import KernelMissingError
from upscale.kernels.autotune import Stopwatch, agree, kernel_seconds
from upscale.kernels.tile_configs import Card, Shape, TileConfig
from upscale.kernels.triton_conv import KernelUse, TritonLayer, load_kernels
from upscale.kernels.verdicts import Verdict
from upscale.models.layers import Layer, torch_layer

SIDE = 384
"""Side of the random maps: enough programs for any GPU."""

MAX_CRASHES = 4
"""Number of processes that may end early before torch computes the rest."""

MAX_SECONDS = 900
"""Time after which a process is stopped, because a kernel may never end."""

TORCH_IS_FASTER = "torch is faster"
DIFFERS = "the result differs from torch's"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to compute a layer shape.

    Attributes:
        shape: Shape of the layer.
        config: Tile config of a kernel, or None for torch.
    """

    shape: Shape
    config: TileConfig | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a candidate.

    Attributes:
        seconds: Time of one run; None if it failed.
        reason: Reason for its failure; empty if it did not fail.
        crashed: Whether it took its process with it.
    """

    seconds: float | None
    reason: str = ""
    crashed: bool = False


_CANDIDATES: TypeAdapter[list[Candidate]] = TypeAdapter(list[Candidate])
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)

Measuring = Callable[[Sequence[Candidate]], Sequence[Outcome]]
"""Function that measures candidates in a process of its own until one ends it."""


def try_kernels(
    device: torch.device, card: Card, shapes: Collection[Shape]
) -> dict[Shape, Verdict]:
    """Measure torch and every tile config for each shape, and return the fastest correct ones."""
    measuring = partial(measure_in_process, [sys.executable, "-m", __name__, str(device)])
    return best_candidates(card, shapes, measuring)


def best_candidates(
    card: Card, shapes: Collection[Shape], measuring: Measuring
) -> dict[Shape, Verdict]:
    """Return the fastest correct candidate for each shape.

    Args:
        card: Card that computes.
        shapes: Shapes to try.
        measuring: Function that measures candidates until one of them ends its process.
    """
    candidates = [
        Candidate(shape, config)
        for shape in sorted(shapes, key=str)
        for config in (None, *card.configs(shape))
    ]
    outcomes: list[Outcome] = []
    crashes = 0
    while len(outcomes) < len(candidates) and crashes < MAX_CRASHES:
        outcomes += measuring(candidates[len(outcomes) :])
        crashes += outcomes[-1].crashed
    missing = len(candidates) - len(outcomes)
    outcomes += [Outcome(None, "not tried, because others ended their process")] * missing
    by_shape: dict[Shape, dict[TileConfig | None, Outcome]] = {shape: {} for shape in shapes}
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        by_shape[candidate.shape][candidate.config] = outcome
    return {shape: verdict_from(each) for shape, each in by_shape.items()}


def verdict_from(outcomes: Mapping[TileConfig | None, Outcome]) -> Verdict:
    """Return the verdict for a shape from the outcomes of torch, which is None, and the configs."""
    times = {
        config: outcome.seconds
        for config, outcome in outcomes.items()
        if outcome.seconds is not None
    }
    best = min(times, key=times.__getitem__, default=None)
    if best is not None:
        return Verdict(best)
    failed = [outcome for config, outcome in outcomes.items() if config and outcome.reason]
    if set(times) - {None}:
        return Verdict(None, TORCH_IS_FASTER)
    reason = failed[0].reason if failed else "no kernel fits this card"
    lasting = any(each.crashed or each.reason == DIFFERS for each in failed) or not failed
    return Verdict(None, reason, lasting)


def measure_in_process(
    command: Sequence[str], candidates: Sequence[Candidate], seconds: float = MAX_SECONDS
) -> list[Outcome]:
    """Measure candidates in another process.

    Args:
        command: Command that reads candidates from its standard input, creates the file that is its
            last argument as soon as the device works, and appends an outcome for each candidate.
        candidates: Candidates to measure.
        seconds: Time after which the process is stopped.

    Returns:
        The outcomes, one at least. If the process ended early, the last of them is a crash.

    Raises:
        KernelMissingError: The process cannot start, or cannot use the device.
    """
    with TemporaryDirectory(prefix="upscale-") as folder:
        path = Path(folder) / "outcomes.jsonl"
        content = _CANDIDATES.dump_json(list(candidates))
        try:
            process = subprocess.run(
                [*command, str(path)], input=content, capture_output=True, timeout=seconds,
                check=False,
            )  # fmt: skip
            error = f"exit status {process.returncode}: {_last_line(process.stderr)}"
        except subprocess.TimeoutExpired:
            error = f"took more than {seconds:g} seconds"
        except OSError as failure:
            error = one_line(failure)
        if not path.exists():
            raise KernelMissingError(f"kernels cannot be tried in another process ({error})")
        *lines, _ = path.read_bytes().split(b"\n")  # what follows the last line end is incomplete
    outcomes = [_OUTCOME.validate_json(line) for line in lines]
    if len(outcomes) < len(candidates):
        outcomes.append(Outcome(None, f"its process ended early ({error})", crashed=True))
    return outcomes


def measure(
    use: KernelUse,
    candidate: Candidate,
    device: torch.device,
    seconds: Stopwatch = kernel_seconds,
    side: int = SIDE,
) -> Outcome:
    """Measure a candidate with random values.

    Args:
        use: Kernels to measure.
        candidate: Candidate to measure.
        device: Device that computes.
        seconds: Function that measures the time of a piece of work.
        side: Side of the maps.
    """
    try:
        layer, maps, residuals = random_example(candidate.shape, device, side)
        plain = partial(torch_layer(layer), maps, residuals)
        if candidate.config is None:
            return Outcome(seconds(plain))
        kernel = TritonLayer(use, layer)
        target = kernel.empty(maps[0]).fill_(torch.nan)
        run = partial(kernel.launch, candidate.config, maps, residuals, target)
        run()
        return Outcome(seconds(run)) if agree(target, plain()) else Outcome(None, DIFFERS)
    except Exception as error:  # any failure: the others are still candidates
        return Outcome(None, one_line(error))


def random_example(
    shape: Shape, device: torch.device, side: int
) -> tuple[Layer, list[Tensor], list[Tensor]]:
    """Return a layer of a shape with random weights, and random maps and residuals for it."""
    precision: torch.dtype = getattr(torch, shape.precision)
    convolution = torch.nn.Conv2d(sum(shape.channels), shape.outputs, 3, padding=1)
    convolution.requires_grad_(False).to(device, precision)
    layer = Layer(convolution, shape.padding, shape.upsample, slope=0.2, scale=0.2)

    def random_map(channels: int, side: int) -> Tensor:
        values = torch.rand(1, side, side, channels, device=device) - 0.5
        return values.to(precision).permute(0, 3, 1, 2)

    result = side * shape.upsample + 2 * shape.padding - 2
    maps = [random_map(each, side) for each in shape.channels if each]
    return layer, maps, [random_map(shape.outputs, result) for _ in range(shape.residuals)]


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no message"


@torch.inference_mode()
def main() -> None:
    """Measure the candidates on standard input on the device that the command line names."""
    device, path = torch.device(sys.argv[1]), Path(sys.argv[2])
    torch.cuda.set_device(device)
    torch.cuda.synchronize()
    use = KernelUse(load_kernels())
    path.touch()
    for candidate in _CANDIDATES.validate_json(sys.stdin.buffer.read()):
        outcome = measure(use, candidate, device)
        # After an illegal access this fails, so that the outcome is not written.
        torch.cuda.synchronize()
        with path.open("ab") as file:
            file.write(_OUTCOME.dump_json(outcome) + b"\n")


if __name__ == "__main__":
    main()
