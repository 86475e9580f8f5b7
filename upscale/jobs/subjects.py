"""What an evaluation measures: pictures, and the reference of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upscale.errors import PictureError, UsageError
from upscale.jobs.compare import without_our_suffix
from upscale.jobs.sources import Finder, Source
from upscale.pictures.names import shown


@dataclass(frozen=True, slots=True)
class Subject:
    """A picture to measure.

    Attributes:
        picture: What it shows: its path in its folder without the suffix.
        version: Whose it is: the folder as it was named; empty for files that were named.
        path: Its file.
        reference: What it is compared with, or None.
    """

    picture: str
    version: str
    path: Path
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to measure.

    Attributes:
        subjects: In the order of the inputs.
        problems: Why others are not among them.
        passed_over: How many files in folders are no pictures.
    """

    subjects: tuple[Subject, ...]
    problems: tuple[PictureError, ...] = ()
    passed_over: int = 0


def find_subjects(inputs: Sequence[str], reference: Path | None, *, recursive: bool) -> Found:
    """Find pictures and what each is to be compared with.

    A reference that is a file is that of all pictures. In a folder it is the picture whose path is
    equal without the suffix, or without what our default names add (`photo_x4.png`).

    Args:
        inputs: Files and folders.
        reference: A file or a folder; None measures pictures alone.
        recursive: Look into folders of folders, of the references too.

    Raises:
        UsageError: There is no input.
        PictureError: The reference does not exist.
    """
    if not inputs or "" in inputs or "-" in inputs:
        raise UsageError("no input: name pictures or folders")
    references = None if reference is None else _References(reference, recursive=recursive)
    finder = Finder(recursive, reference)
    subjects: list[Subject] = []
    problems: list[PictureError] = []
    for name in inputs:
        version = name if Path(name).is_dir() else ""
        for source in finder.find(name, bytes):
            try:
                subjects.append(_subject(source, version, references))
            except PictureError as error:
                problems.append(error)
    return Found(tuple(subjects), (*problems, *finder.failures), finder.passed_over)


def _subject(source: Source, version: str, references: _References | None) -> Subject:
    path, key = Path(source.label), _key(source)
    reference = None if references is None else references.find(key, path)
    return Subject(key, version, path, reference)


def _key(source: Source) -> str:
    return (source.folder / source.stem).as_posix()


class _References:
    """One reference, or those of a folder by their keys."""

    def __init__(self, place: Path, *, recursive: bool) -> None:
        self._place = place
        self._whole: dict[str, list[Path]] = {}
        self._shortened: dict[str, list[Path]] = {}
        if not place.exists():
            raise PictureError(f"{shown(place)}: does not exist; check --reference")
        self._is_folder = place.is_dir()
        if self._is_folder:
            for source in Finder(recursive, None).find(str(place), bytes):
                path, key = Path(source.label), _key(source)
                self._whole.setdefault(key, []).append(path)
                self._shortened.setdefault(without_our_suffix(key), []).append(path)

    def find(self, key: str, path: Path) -> Path:
        """Return the reference of a picture.

        Raises:
            PictureError: There is none, or there are several.
        """
        if not self._is_folder:
            return self._place
        short = without_our_suffix(key)
        found = self._whole.get(key) or self._whole.get(short) or self._shortened.get(short)
        if not found:
            raise PictureError(
                f"{shown(path)}: has no reference: {shown(self._place)} holds no picture "
                f"named {short}"
            )
        if len(found) > 1:
            names = " and ".join(shown(other) for other in found)
            raise PictureError(f"{shown(path)}: has several references: {names}; keep one")
        return found[0]
