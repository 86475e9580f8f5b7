"""Images made from images: several PNG files from each, in a folder of the same shape."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from upscale.images import read_size
from upscale_training.data.index import stem_of
from upscale_training.data.parallel import check_apart, claim, each, without_clashes
from upscale_training.data.pixels import Pixels, read_rgb, write_png

Output = TypeVar("Output")


class Maker(Protocol[Output]):
    """What is made of an image; a dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def outputs(self, width: int, height: int) -> Mapping[str, Output]:
        """What is made of an image of this size: ends of names, and what `make` takes."""
        ...

    def make(self, pixels: Pixels, output: Output) -> Pixels:
        """Make one of the outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """What one image gave: outputs written now, and those that an earlier run had left."""

    written: int = 0
    kept: int = 0


def derive(
    maker: Maker[Output], source: Path, names: Sequence[str], target: Path, jobs: int
) -> Generator[tuple[str, Made | Exception]]:
    """Make outputs of images, in folders as theirs, and yield what each image gave.

    Outputs that are there already are kept, so that a run that was ended is repeated to go on.

    Args:
        maker: Makes them.
        source: A folder.
        names: Of images in it.
        target: A new folder, or one that such a run has begun.
        jobs: Processes.

    Raises:
        UsageError: The target is in the source.
        OutputError: The target holds something else, or cannot be made.
    """
    check_apart(source, target)
    claim(target, source, {"made": type(maker).__name__, **asdict(maker)})
    own, clashes = without_clashes(names)
    yield from clashes.items()
    yield from each(partial(_derive, maker, source, target), own, jobs)


def _derive(maker: Maker[Output], source: Path, target: Path, name: str) -> Made:
    path = source / name
    wanted = {
        target / f"{stem_of(name)}{end}.png": output
        for end, output in maker.outputs(*read_size(path)).items()
    }
    missing = {file: output for file, output in wanted.items() if not file.exists()}
    if missing:
        pixels = read_rgb(path)
        for file, output in missing.items():
            write_png(maker.make(pixels, output), file)
    return Made(len(missing), len(wanted) - len(missing))
