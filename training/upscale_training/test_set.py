"""Write test sets: HR images with LR images made from them, always the same for a seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_json
from upscale.files.printable import printable
from upscale.files.system_errors import raise_system_error
from upscale.images import Image, remove_stale_temporaries, write_file
from upscale_training.data.index import images_below, publish_text, stem_of
from upscale_training.data.pixels import read_rgb
from upscale_training.degraded_sample import DegradationSampler, DegradedSample, divisible

HR_FOLDER, LR_FOLDER, DESCRIPTIONS = "gt", "lq", "descriptions.jsonl"
"""Names of the folders and the file of a set."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of a set.

    Attributes:
        line: Description of the pair, as in the file of descriptions.
        kept: Whether an earlier run wrote the pair.
    """

    line: str
    kept: bool


def find_images(inputs: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Find the images of a set.

    Args:
        inputs: Image files, and folders of images.
        folder: Folder of the set.

    Returns:
        Files by the names of their pairs: their paths relative to the input folder, without suffix.

    Raises:
        UsageError: There are no images, two pairs would have the same name, or the folder of the
            set is in one of the inputs, so that the next run would use its images as inputs.
        TrainingError: A folder cannot be read.
    """
    images: dict[str, Path] = {}
    for source in inputs:
        if folder.resolve().is_relative_to(source.resolve()):
            raise UsageError(
                f"{printable(folder)}: is inside {printable(source)}; use a folder outside of it"
            )
        if source.is_dir():
            files = {name: source / name for name in images_below(source)}
        else:
            files = {source.name: source}
        for name, path in files.items():
            other = images.setdefault(stem_of(name), path)
            if other != path:
                raise UsageError(
                    f"{printable(path)}: its pair would have the same name as that of "
                    f"{printable(other)}; rename it"
                )
    if not images:
        raise UsageError(f"{printable(inputs[0])}: contains no images; name another folder")
    return images


def write_set(
    folder: Path, images: Mapping[str, Path], sampler: DegradationSampler
) -> Iterator[tuple[Path, Pair | UpscaleError]]:
    """Write the pairs of a set and yield each image with its pair or error.

    The folder `gt` gets the HR images, 8-bit RGB cropped to a multiple of the scale, `lq` the LR
    images, and `descriptions.jsonl` the degradation of each. HR images are not sharpened first,
    because they are the ground truth, as in the validation of training. A pair depends only on its
    image, its name and the sampler. Existing pairs are kept, so an interrupted run resumes when it
    is repeated, and a set can grow.

    Args:
        folder: New folder, or the folder of an interrupted or smaller set.
        images: Files by the names of their pairs.
        sampler: Sampler of the degradations.

    Raises:
        OutputError: The folder contains something else, or a file cannot be written.
    """
    unsharpened = replace(sampler, recipe=replace(sampler.recipe, sharpen=False))
    samples = {name: unsharpened.sample(name) for name in sorted(images)}
    lines = {name: _line(name, sampler, sample) for name, sample in samples.items()}
    known = _open_set(folder, sampler)
    if any(known.get(name, line) != line for name, line in lines.items()):
        raise _different_set(folder)
    with (folder / DESCRIPTIONS).open("a", encoding="ascii") as journal:
        for name, line in lines.items():
            files = [folder / part / f"{name}.png" for part in (HR_FOLDER, LR_FOLDER)]
            kept = name in known and all(file.exists() for file in files)
            try:
                if not kept:
                    _write_pair(images[name], samples[name], sampler.scale, files)
            except ImageError as error:
                raise_system_error(error)
                yield images[name], error
                continue
            if name not in known:
                journal.write(f"{line}\n")
                journal.flush()
                known[name] = line
            yield images[name], Pair(line, kept)
    _write_descriptions(folder, known)


def _write_pair(source: Path, sample: DegradedSample, scale: int, files: Sequence[Path]) -> None:
    hr = divisible(read_rgb(source), scale, printable(source))
    for pixels, file in zip((hr, sample.make(hr)), files, strict=True):
        # An existing file was left by a run that was interrupted between both files.
        write_file(Image(pixels), file, format="png", overwrite=True)


def _line(name: str, sampler: DegradationSampler, sample: DegradedSample) -> str:
    return json.dumps({"name": name} | _origin(sampler) | sample.as_dict())


def _origin(sampler: DegradationSampler) -> dict[str, object]:
    """Return the values that all pairs of a set have in common."""
    chain = sampler.recipe.chain
    named = chain if isinstance(chain, str) else "steps of a recipe"
    return {"chain": named, "scale": sampler.scale, "seed": sampler.seed}


def _open_set(folder: Path, sampler: DegradationSampler) -> dict[str, str]:
    """Check a folder and return the lines of its pairs by name; none for a new folder."""
    journal = folder / DESCRIPTIONS
    try:
        if not journal.exists() and folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{printable(folder)}: contains other files; use a new folder")
        text = journal.read_text("ascii") if journal.exists() else ""
        # The text after the last line break is the incomplete line of an interrupted run.
        records = {line: parse_json(line) for line in text.split("\n")[:-1]}
        known = {record["name"]: line for line, record in records.items()}
    except OSError as error:
        raise OutputError(f"{printable(folder)}: cannot be read ({one_line(error)})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{printable(journal)}: is damaged; use a new folder") from error
    for key, value in _origin(sampler).items():
        if any(record.get(key) != value for record in records.values()):
            raise _different_set(folder)
    _write_descriptions(folder, known)
    for path in (folder, folder / HR_FOLDER, folder / LR_FOLDER):
        remove_stale_temporaries(path)
    return known


def _different_set(folder: Path) -> OutputError:
    return OutputError(
        f"{printable(folder)}: contains a set of another chain, scale or seed (see {DESCRIPTIONS} "
        "in it); use another folder"
    )


def _write_descriptions(folder: Path, lines: Mapping[str, str]) -> None:
    text = "".join(f"{lines[name]}\n" for name in sorted(lines))
    publish_text(folder / DESCRIPTIONS, text, overwrite=True)
