"""What an evaluation measures: images, and the reference of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upscale.errors import ImageError, UsageError
from upscale.files.printable import printable
from upscale.jobs.comparison import without_our_suffix
from upscale.jobs.inputs import Finder, Source


@dataclass(frozen=True, slots=True)
class EvalItem:
    """An image to measure.

    Attributes:
        image: What it shows: its path in its folder without the suffix.
        version: Whose it is: the folder as it was named; empty for files that were named.
        path: Its file.
        reference: What it is compared with, or None.
    """

    image: str
    version: str
    path: Path
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to measure.

    Attributes:
        subjects: In the order of the inputs.
        problems: Why others are not among them.
        ignored: How many files in folders are no images.
    """

    subjects: tuple[EvalItem, ...]
    problems: tuple[ImageError, ...] = ()
    ignored: int = 0


def find_eval_items(inputs: Sequence[str], reference: Path | None, *, recursive: bool) -> Found:
    """Find images and what each is to be compared with.

    A reference that is a file is that of all images. In a folder it is the image whose path is
    equal without the suffix, or without what our default names add (`photo_x4.png`).

    Args:
        inputs: Files and folders.
        reference: A file or a folder; None measures images alone.
        recursive: Look into folders of folders, of the references too.

    Raises:
        UsageError: There is no input.
        ImageError: The reference does not exist.
    """
    if not inputs or "" in inputs or "-" in inputs:
        raise UsageError("no input: name images or folders")
    references = None if reference is None else _References(reference, recursive=recursive)
    finder = Finder(recursive, reference)
    subjects: list[EvalItem] = []
    problems: list[ImageError] = []
    for name in inputs:
        version = name if Path(name).is_dir() else ""
        for source in finder.find(name, bytes):
            try:
                subjects.append(_subject(source, version, references))
            except ImageError as error:
                problems.append(error)
    return Found(tuple(subjects), (*problems, *finder.failures), finder.ignored)


def _subject(source: Source, version: str, references: _References | None) -> EvalItem:
    path, key = Path(source.label), _key(source)
    reference = None if references is None else references.find(key, path)
    return EvalItem(key, version, path, reference)


def _key(source: Source) -> str:
    return (source.folder / source.stem).as_posix()


class _References:
    """One reference, or those of a folder by their keys."""

    def __init__(self, place: Path, *, recursive: bool) -> None:
        self._place = place
        self._whole: dict[str, list[Path]] = {}
        self._shortened: dict[str, list[Path]] = {}
        if not place.exists():
            raise ImageError(f"{printable(place)}: does not exist; check --reference")
        self._is_folder = place.is_dir()
        if self._is_folder:
            for source in Finder(recursive, None).find(str(place), bytes):
                path, key = Path(source.label), _key(source)
                self._whole.setdefault(key, []).append(path)
                self._shortened.setdefault(without_our_suffix(key), []).append(path)

    def find(self, key: str, path: Path) -> Path:
        """Return the reference of an image.

        Raises:
            ImageError: There is none, or there are several.
        """
        if not self._is_folder:
            return self._place
        short = without_our_suffix(key)
        found = self._whole.get(key) or self._whole.get(short) or self._shortened.get(short)
        if not found:
            raise ImageError(
                f"{printable(path)}: has no reference: {printable(self._place)} holds no image "
                f"named {short}"
            )
        if len(found) > 1:
            names = " and ".join(printable(other) for other in found)
            raise ImageError(f"{printable(path)}: has several references: {names}; keep one")
        return found[0]
