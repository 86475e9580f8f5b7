"""Test sets: good images beside bad ones made of them, the same from the same seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import Image, remove_stale_temporaries, write_file
from upscale_training.data.index import images_below, publish_text, stem_of
from upscale_training.data.pixels import read_rgb
from upscale_training.degraded_sample import DegradationSampler, DegradedSample, divisible

GOOD, BAD, DESCRIPTIONS = "gt", "lq", "descriptions.jsonl"
"""What a set holds, under the names that the field uses."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair that is in a set.

    Attributes:
        line: its description, as in the set's file of them.
        kept: whether an earlier run had made it.
    """

    line: str
    kept: bool


def find_images(inputs: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Find the images of a set: files, and all that folders hold.

    Args:
        inputs: Files and folders.
        folder: Of the set.

    Returns:
        Files by the names of their pairs: their own, relative to their folders, without suffixes.

    Raises:
        UsageError: There is none, two pairs would have one name, or the set's folder lies in one
            of the inputs, where the next run took its images for some.
        TrainingError: A folder cannot be read.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        if folder.resolve().is_relative_to(given.resolve()):
            raise UsageError(
                f"{printable(folder)}: lies in {printable(given)}; give a folder beside it"
            )
        inside = images_below(given) if given.is_dir() else []
        files = {name: given / name for name in inside} if given.is_dir() else {given.name: given}
        for name, path in files.items():
            rival = found.setdefault(stem_of(name), path)
            if rival != path:
                raise UsageError(
                    f"{printable(path)}: its pair would have the name of that of {printable(rival)}; "
                    "rename it"
                )
    if not found:
        raise UsageError(f"{printable(inputs[0])}: holds no images; name a folder that does")
    return found


def write_set(
    folder: Path, images: Mapping[str, Path], draws: DegradationSampler
) -> Iterator[tuple[Path, Pair | UpscaleError]]:
    """Make the pairs of a set and yield what each image gave.

    `gt` gets the good images, 8-bit RGB cut to a multiple of the scale, `lq` the bad ones, and
    `descriptions.jsonl` what was done to each. The good ones are not sharpened first, for they are
    the truth, as in a upscale_training's validation. What a pair is depends on its image, its name,
    what is drawn from. Pairs that are there already are kept, so that a run that was ended is
    repeated to go on, and a set can grow.

    Args:
        folder: A new one, or one that such a run has begun.
        images: Files by the names of their pairs.
        draws: What is done to them is drawn from.

    Raises:
        OutputError: The folder holds something else, or a file cannot be written.
    """
    plain = replace(draws, recipe=replace(draws.recipe, sharpen=False))
    treatments = {name: plain.treatment(name) for name in sorted(images)}
    lines = {name: _line(name, draws, treatment) for name, treatment in treatments.items()}
    known = _begin(folder, draws)
    if any(known.get(name, line) != line for name, line in lines.items()):
        raise _begun_otherwise(folder)
    with (folder / DESCRIPTIONS).open("a", encoding="ascii") as journal:
        for name, line in lines.items():
            files = [folder / part / f"{name}.png" for part in (GOOD, BAD)]
            kept = name in known and all(file.exists() for file in files)
            try:
                if not kept:
                    _write_pair(images[name], treatments[name], draws.scale, files)
            except ImageError as error:
                yield images[name], error
                continue
            if name not in known:
                journal.write(f"{line}\n")
                journal.flush()
                known[name] = line
            yield images[name], Pair(line, kept)
    _publish_descriptions(folder, known)


def _write_pair(source: Path, treatment: DegradedSample, scale: int, files: Sequence[Path]) -> None:
    good = divisible(read_rgb(source), scale, printable(source))
    for pixels, file in zip((good, treatment.make(good)), files, strict=True):
        # What lies there is of a run that was ended between two files, for the folder is ours.
        write_file(Image(pixels), file, format="png", overwrite=True)


def _line(name: str, draws: DegradationSampler, treatment: DegradedSample) -> str:
    return json.dumps({"name": name} | _origin(draws) | treatment.as_dict())


def _origin(draws: DegradationSampler) -> dict[str, object]:
    """What all pairs of a set have in common."""
    chain = draws.recipe.chain
    named = chain if isinstance(chain, str) else "steps of a recipe"
    return {"chain": named, "scale": draws.scale, "seed": draws.seed}


def _begin(folder: Path, draws: DegradationSampler) -> dict[str, str]:
    """Begin a set, or take up one: the lines of what it holds by their names."""
    journal = folder / DESCRIPTIONS
    try:
        if not journal.exists() and folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{printable(folder)}: holds other files; give a new folder")
        text = journal.read_text("ascii") if journal.exists() else ""
        # What follows the last line break was being written when a run was ended.
        held = {line: json.loads(line) for line in text.split("\n")[:-1]}
        known = {facts["name"]: line for line, facts in held.items()}
    except OSError as error:
        raise OutputError(f"{printable(folder)}: cannot be read ({one_line(error)})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{printable(journal)}: is damaged; give a new folder") from error
    for key, value in _origin(draws).items():
        if any(facts.get(key) != value for facts in held.values()):
            raise _begun_otherwise(folder)
    _publish_descriptions(folder, known)
    for place in (folder, folder / GOOD, folder / BAD):
        remove_stale_temporaries(place)
    return known


def _begun_otherwise(folder: Path) -> OutputError:
    return OutputError(
        f"{printable(folder)}: was begun with another chain, scale or seed ({DESCRIPTIONS} in it says "
        "which); give another folder"
    )


def _publish_descriptions(folder: Path, lines: Mapping[str, str]) -> None:
    text = "".join(f"{lines[name]}\n" for name in sorted(lines))
    publish_text(folder / DESCRIPTIONS, text, overwrite=True)
