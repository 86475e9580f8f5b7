"""Fusion files: two networks of one scale whose results are mixed where images are dark.

Source: Ren et al., "Real-World Super-Resolution using Generative Adversarial Networks" (CVPRW
2020): `y = alpha * y_R + beta * y_S` if the median luma is below gamma, else `y_R`. The paper does
not give alpha, beta and gamma; the defaults are ours.

A fusion file is JSON, so that it can be read and written by hand. It names its networks.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import IO, Any, cast

from upscale.errors import CheckpointError
from upscale.files.atomic import replace_file
from upscale.files.error_mapping import one_line
from upscale.files.paths import expand_user

ALPHA = 0.5
GAMMA = 80.0

BRIGHTEST = 256
"""Level above all levels of luma, with which every image is dark."""

_LONGEST = 1 << 16
"""Bytes of the longest file that is read."""

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Fusion:
    """Two networks, and how their results are mixed.

    Attributes:
        relativistic: Name or file of the network that computes all images.
        standard: Name or file of the network that is mixed in.
        alpha: Weight of the relativistic network for dark images, 0..1.
        gamma: Median luma below which an image is dark, in levels of 0..255.

    Raises:
        CheckpointError: A value is outside its range.

    Example:
        >>> Fusion("realsr-df2k", "realesrgan-x4plus", alpha=0.25).beta
        0.75
    """

    relativistic: str
    standard: str
    alpha: float = ALPHA
    gamma: float = GAMMA

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise CheckpointError(f"alpha {self.alpha:g} is outside 0..1")
        if not 0 <= self.gamma <= BRIGHTEST:
            raise CheckpointError(f"gamma {self.gamma:g} is outside 0..{BRIGHTEST}")

    @property
    def beta(self) -> float:
        """Weight of the standard network for dark images: with alpha, the brightness is kept."""
        return 1 - self.alpha

    @property
    def networks(self) -> tuple[str, str]:
        """The relativistic and the standard network."""
        return self.relativistic, self.standard

    def describe(self) -> str:
        """Return a one-line description."""
        return (
            f"{self.relativistic}; {self.alpha:g} of it and {self.beta:g} of {self.standard} "
            f"for images with a median luma below {self.gamma:g}"
        )


def fusion_file(name: str | Path) -> Path | None:
    """Return the path of a fusion file, which is recognised by its content; None for others."""
    path = expand_user(Path(name))
    try:
        with path.open("rb") as stream:
            return path if stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else None
    except (OSError, ValueError):
        return None


def read_fusion(path: Path) -> Fusion:
    """Read a fusion file.

    Args:
        path: Fusion file. Files that it names are relative to its folder.

    Returns:
        The fusion, with the paths of its files.

    Raises:
        CheckpointError: The file cannot be read, or has other keys or values.
    """
    try:
        with path.open("rb") as stream:
            values = json.loads(stream.read(_LONGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as a fusion ({one_line(error)})") from error
    try:
        fusion = _checked(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    relativistic, standard = (_beside(path.parent, name) for name in fusion.networks)
    fusion = replace(fusion, relativistic=relativistic, standard=standard)
    check_networks(fusion)
    return fusion


def check_networks(fusion: Fusion) -> None:
    """Check that a fusion names no other fusion.

    Raises:
        CheckpointError: One of the two is a fusion file.
    """
    for name in fusion.networks:
        if fusion_file(name) is not None:
            raise CheckpointError(f"{name}: is a fusion itself; a fusion needs two networks")


def write_fusion(fusion: Fusion, path: Path) -> None:
    """Write a fusion file; files that it names become relative to its folder.

    Raises:
        CheckpointError: The file cannot be written.
    """
    relativistic, standard = (_relative(path.parent, name) for name in fusion.networks)
    stored = {
        "relativistic": relativistic, "standard": standard,
        "alpha": fusion.alpha, "beta": fusion.beta, "gamma": fusion.gamma,
    }  # fmt: skip
    text = json.dumps(stored, indent=2, ensure_ascii=False) + "\n"
    try:
        replace_file(path, partial(_write, text.encode()))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({one_line(error)})") from error


def _write(data: bytes, stream: IO[bytes]) -> None:
    stream.write(data)


def alpha_of(alpha: float | None, beta: float | None) -> float:
    """Return alpha, which may be given by beta alone.

    Raises:
        CheckpointError: Both are given and do not add up to 1.
    """
    if beta is None:
        return ALPHA if alpha is None else alpha
    if not 0 <= beta <= 1:
        raise CheckpointError(f"beta {beta:g} is outside 0..1")
    if alpha is not None and not math.isclose(alpha + beta, 1, abs_tol=_SUM_TOLERANCE):
        raise CheckpointError(
            f"alpha {alpha:g} and beta {beta:g} do not add up to 1: leave one of them out"
        )
    return 1 - beta if alpha is None else alpha


def _checked(values: object) -> Fusion:
    if not isinstance(values, dict):
        raise CheckpointError("is no fusion of two networks")
    read = cast(dict[str, Any], values)
    kinds: dict[str, type | UnionType] = {
        "relativistic": str, "standard": str,
        "alpha": float | int, "beta": float | int, "gamma": float | int,
    }  # fmt: skip
    for key, value in read.items():
        if key not in kinds:
            raise CheckpointError(f"{key[:40]!r} is no key of a fusion: use {', '.join(kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise CheckpointError(f"{key} must be a {'text' if kinds[key] is str else 'number'}")
    for key in ("relativistic", "standard"):
        if not read.get(key):
            raise CheckpointError(f"lacks {key}, the name or file of a network")
    alpha = alpha_of(read.get("alpha"), read.get("beta"))
    return Fusion(read["relativistic"], read["standard"], alpha, read.get("gamma", GAMMA))


def _beside(folder: Path, name: str) -> str:
    """Return the path of a file that a fusion names; names of networks stay as they are."""
    path = folder / expand_user(Path(name))
    return str(path) if path.is_file() else name


def _relative(folder: Path, name: str) -> str:
    """Return the path of a file as seen from a folder; names of networks stay as they are."""
    path = expand_user(Path(name))
    if not path.is_file():
        return name
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())
