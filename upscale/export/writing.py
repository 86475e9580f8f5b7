"""Write the files of an exported network, and check them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from upscale.errors import UsageError
from upscale.export.formats import FORMATS, FormatName
from upscale.export.onnx_check import largest_difference
from upscale.export.source import Source
from upscale.files.atomic import check_target_free, write_atomically
from upscale.files.printable import printable


def format_of(target: Path, name: FormatName | None) -> FormatName:
    """Return the format of an output: the one that is asked for, or that of its suffix.

    Args:
        target: The file that the user names.
        name: Format, or None for that of the suffix.

    Raises:
        UsageError: The suffix is not that of a format, or of another one.

    Example:
        >>> format_of(Path("net.param"), None)
        'ncnn'
    """
    for each, known in FORMATS.items():
        if known.suffix == target.suffix and name in (None, each):
            return each
    suffixes = FORMATS[name].suffix if name else ", ".join(x.suffix for x in FORMATS.values())
    kind = f" for {name}" if name else ""
    raise UsageError(f"-o {printable(target)}: the file name must end in {suffixes}{kind}")


def files_of(target: Path, name: FormatName) -> tuple[Path, ...]:
    """Return all files of an output: two for ncnn.

    Example:
        >>> [path.name for path in files_of(Path("net.param"), "ncnn")]
        ['net.bin', 'net.param']
    """
    suffixes = (".bin", ".param") if name == "ncnn" else (FORMATS[name].suffix,)
    return tuple(target.with_suffix(suffix) for suffix in suffixes)


def write_network(
    source: Source, target: Path, name: FormatName, *, half: bool = False, overwrite: bool = False
) -> float | None:
    """Write a network; all files appear, or none.

    An ONNX file is first run by ONNX Runtime, if that is installed, and compared with PyTorch.

    Args:
        source: Network to write.
        target: The file that the user names.
        name: Format.
        half: Whether weights are stored in fp16.
        overwrite: Whether existing files are replaced.

    Returns:
        Largest difference between ONNX Runtime and PyTorch for images in 0..1; None without a
        comparison.

    Raises:
        CheckpointError: The network cannot be exported, or the results differ.
        DependencyError: A package for the format is missing.
        OutputError: A file exists, or cannot be written.
    """
    for path in files_of(target, name):
        check_target_free(path, overwrite=overwrite)
    contents = FORMATS[name].encode(source, half)
    difference = None
    if name == "onnx":
        difference = largest_difference(contents[".onnx"], source.network, half=half)
    _write_all({target.with_suffix(suffix): each for suffix, each in contents.items()}, overwrite)
    return difference


def _write_all(contents: Mapping[Path, bytes], overwrite: bool) -> None:
    """Write files; those that are new are removed again if a later one cannot be written."""
    new: list[Path] = []
    try:
        for path, content in contents.items():
            existed = path.exists()
            write_atomically(path, lambda file, data=content: file.write(data), overwrite=overwrite)
            if not existed:
                new.append(path)
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise
