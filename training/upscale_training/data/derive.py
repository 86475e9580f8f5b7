"""Derive images from images: several PNG files from each, in a folder of the same structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from upscale.images import read_size
from upscale_training.data.index import stem_of
from upscale_training.data.parallel import map_into_folder
from upscale_training.data.pixels import Pixels, read_rgb, write_png

Output = TypeVar("Output")


class ImageTransform(Protocol[Output]):
    """A transform of one image to several; a dataclass of plain values.

    Attributes:
        kind: Name of the transform in the files of interrupted runs.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]

    def outputs(self, width: int, height: int) -> Mapping[str, Output]:
        """Return the arguments of `make` by name suffix, for an image of this size."""
        ...

    def make(self, pixels: Pixels, output: Output) -> Pixels | str:
        """Make one of the outputs, or return in a word or two why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class DeriveResult:
    """The outputs of one image.

    Attributes:
        written: Number of outputs written now.
        kept: Number of outputs that an earlier run wrote.
        omitted: Number of outputs that the transform does not make, by reason.
    """

    written: int = 0
    kept: int = 0
    omitted: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)


def derive(
    transform: ImageTransform[Output], source: Path, names: Sequence[str], target: Path, jobs: int
) -> Generator[tuple[str, DeriveResult | Exception]]:
    """Write the outputs of images in folders like theirs, and yield the result of each image.

    Existing outputs are kept, so an interrupted run resumes when it is repeated.

    Args:
        transform: Transform of each image.
        source: Folder of the images.
        names: Names of images, relative to the folder.
        target: New folder, or the folder of an interrupted run.
        jobs: Number of processes.

    Raises:
        UsageError: The target is inside the source.
        OutputError: The target contains something else, or cannot be created.
    """
    work = partial(_derive, transform, source, target)
    claim = {"made": transform.kind, **asdict(transform)}
    return map_into_folder(work, names, source, target, settings=claim, jobs=jobs)


def _derive(
    transform: ImageTransform[Output], source: Path, target: Path, name: str
) -> DeriveResult:
    path = source / name
    outputs = {
        target / f"{stem_of(name)}{suffix}.png": output
        for suffix, output in transform.outputs(*read_size(path)).items()
    }
    missing = {file: output for file, output in outputs.items() if not file.exists()}
    omitted = Counter[str]()
    if missing:
        pixels = read_rgb(path)
        for file, output in missing.items():
            made = transform.make(pixels, output)
            if isinstance(made, str):
                omitted[made] += 1
            else:
                write_png(made, file)
    written, kept = len(missing) - omitted.total(), len(outputs) - len(missing)
    return DeriveResult(written, kept, dict(omitted))
