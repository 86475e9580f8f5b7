"""Items of an evaluation: images, each matched with its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upscale.errors import ImageError, UsageError
from upscale.files.printable import printable
from upscale.jobs.inputs import Finder, Source
from upscale.jobs.naming import strip_size_suffix


@dataclass(frozen=True, slots=True)
class EvalItem:
    """An image to measure.

    Attributes:
        image: Path of the image in its folder, without the suffix.
        version: Folder as the user named it; empty for files that the user named.
        path: File of the image.
        reference: File of the ground truth, or None.
        chain: Degradation that made the network's input; empty for images that are only measured.
    """

    image: str
    version: str
    path: Path
    reference: Path | None = None
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Matches:
    """The images to measure.

    Attributes:
        items: Images in the order of the inputs.
        problems: Errors of images that cannot be measured.
        ignored: Number of files in folders that are not images.
    """

    items: tuple[EvalItem, ...]
    problems: tuple[ImageError, ...] = ()
    ignored: int = 0


def find_eval_items(inputs: Sequence[str], reference: Path | None, *, recursive: bool) -> Matches:
    """Find images and match each with its reference.

    A reference that is a file is used for all images. In a folder of references, an image is
    matched by its path without the suffix, or without what the default names append
    (`photo_x4.png`).

    Args:
        inputs: Files and folders.
        reference: File or folder of ground truth; None measures images without reference.
        recursive: Also search subfolders, of the references too.

    Raises:
        UsageError: There is no input.
        ImageError: The reference does not exist.
    """
    if not inputs or "" in inputs or "-" in inputs:
        raise UsageError("no input: name images or folders")
    references = None if reference is None else _References(reference, recursive=recursive)
    finder = Finder(recursive, reference)
    items: list[EvalItem] = []
    problems: list[ImageError] = []
    for name in inputs:
        version = name if Path(name).is_dir() else ""
        for source in finder.find(name, bytes):
            try:
                items.append(_match(source, version, references))
            except ImageError as error:
                problems.append(error)
    return Matches(tuple(items), (*problems, *finder.failures), finder.ignored)


def _match(source: Source, version: str, references: _References | None) -> EvalItem:
    path, key = Path(source.label), _key(source)
    reference = None if references is None else references.find(key, path)
    return EvalItem(key, version, path, reference)


def _key(source: Source) -> str:
    return (source.folder / source.stem).as_posix()


class _References:
    """The reference of all images, or those in a folder by their names."""

    def __init__(self, place: Path, *, recursive: bool) -> None:
        self._place = place
        self._by_name: dict[str, list[Path]] = {}
        self._by_short_name: dict[str, list[Path]] = {}
        if not place.exists():
            raise ImageError(f"{printable(place)}: does not exist; check --reference")
        self._is_folder = place.is_dir()
        if self._is_folder:
            for source in Finder(recursive, None).find(str(place), bytes):
                path, key = Path(source.label), _key(source)
                self._by_name.setdefault(key, []).append(path)
                self._by_short_name.setdefault(strip_size_suffix(key), []).append(path)

    def find(self, key: str, path: Path) -> Path:
        """Return the reference of an image.

        Raises:
            ImageError: There is no reference, or more than one.
        """
        if not self._is_folder:
            return self._place
        short = strip_size_suffix(key)
        candidates = (
            self._by_name.get(key) or self._by_name.get(short) or self._by_short_name.get(short)
        )
        if not candidates:
            raise ImageError(
                f"{printable(path)}: has no reference: {printable(self._place)} contains no image "
                f"named {short}"
            )
        if len(candidates) > 1:
            names = " and ".join(printable(candidate) for candidate in candidates)
            raise ImageError(f"{printable(path)}: has several references: {names}; keep one")
        return candidates[0]
