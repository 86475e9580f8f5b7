"""Verdicts: how our reading of a file compares with those of the independent readers."""

from __future__ import annotations

import enum
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.images.agreement.readers import READERS, Reader, ours
from tests.images.agreement.samples import Decoded, difference
from tests.images.agreement.sandbox import Refusal, Sandbox
from upscale.images import SNIFF_BYTES
from upscale.images.formats import detect


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Difference, in levels of 8 bits, up to which two readings agree.

    Attributes:
        most: Largest difference of a sample.
        mean: Mean difference.
    """

    most: float
    mean: float


EXACT = Tolerance(0.02, 0.02)
"""For formats that store pixels exactly: rounding in 16 bits."""
TOLERANCES = {
    "jpeg": Tolerance(2, 1),  # another inverse transform
    "webp": Tolerance(2, 1),  # YUV to RGB
    "avif": Tolerance(8, 1),  # YUV to RGB, and chroma upsampling
    "heic": Tolerance(8, 1),
    "jxl": Tolerance(2, 1),
    "psd": Tolerance(1, 1),  # white is removed from half-transparent colours
    "jpeg2000": Tolerance(1, 1),  # rounding of the irreversible transform
}
"""For formats that can be lossy."""
CONVERTED = Tolerance(60, 8)
"""For inks and CIELAB that were converted to RGB: implementations of profiles differ."""
ROUNDED = 1.0
"""Largest difference of a sample that we rounded to 8 bits where a reader computes with more."""
FEWER_BITS = 2.0
"""Largest difference of a sample where a reader delivers fewer bits than we do, perhaps cut off."""
_OPAQUE = 65535
_Readings = Mapping[Reader, Decoded | Refusal]


class Outcome(enum.Enum):
    """How our reading compares with those of the independent readers."""

    AGREES = "agrees"
    DIFFERS = "differs"
    ONLY_WE = "only we read"
    ONLY_THEY = "only they read"
    NONE = "none reads"
    TOO_LARGE = "too large"
    UNCHECKED = "no other reader"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result for one file.

    Attributes:
        path: The file.
        format: Name of its format; its suffix where we do not know the format.
        outcome: How the readings compare.
        ours: Our error message; empty where we read the file.
        others: What each independent reader did, by its name.
        dissent: Readers that differ from us, where another agrees.
    """

    path: Path
    format: str
    outcome: Outcome
    ours: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    dissent: tuple[str, ...] = ()

    @property
    def is_outvoted(self) -> bool:
        """Whether more readers differ from us than agree with us."""
        return 2 * len(self.dissent) > sum(
            not text.startswith("refuses") for text in self.others.values()
        )

    def __str__(self) -> str:
        parts = [f"we: {self.ours}"] if self.ours else []
        parts += [f"{name} {text}" for name, text in self.others.items()]
        return f"{self.path}: {self.outcome.value}; " + "; ".join(parts)


def compare(path: Path, sandbox: Sandbox, readers: Iterable[Reader] = READERS) -> Verdict:
    """Read a file with our reader and the independent ones, and compare the pixels.

    Args:
        path: The file.
        sandbox: Where the readers run.
        readers: Independent readers.
    """
    format = _format(path)
    fitting = [reader for reader in readers if format in reader.formats and reader.is_installed()]
    with tempfile.TemporaryDirectory() as folder:
        # Programs that go by the suffix need the right one.
        copy = Path(folder, f"input.{path.suffix[1:].lower() or format}")
        shutil.copy(path, copy)
        try:
            mine, notes = sandbox.call(ours, copy)
        except Refusal as error:
            message = str(error).replace(str(copy), "FILE")
            if "more than the limit" in message:
                return Verdict(path, format, Outcome.TOO_LARGE, message)
            return _refused(path, format, message, _readings(copy, format, sandbox, fitting))
        readings = _readings(copy, format, sandbox, fitting)
    is_converted = any("converted to sRGB" in note for note in notes)
    return _read(path, format, mine, is_converted, readings)


def _format(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(SNIFF_BYTES)
    return detect(start, path.name) or path.suffix[1:].lower()


def _readings(path: Path, format: str, sandbox: Sandbox, readers: Iterable[Reader]) -> _Readings:
    """Return what each reader delivers."""
    readings: dict[Reader, Decoded | Refusal] = {}
    for reader in readers:
        try:
            readings[reader] = sandbox.call(reader.read, path, format)
        except Refusal as error:
            readings[reader] = Refusal(str(error).replace(str(path), "FILE"))
    return readings


def _refused(path: Path, format: str, message: str, readings: _Readings) -> Verdict:
    """Return the verdict on a file that we do not read."""
    others = {
        reader.name: f"refuses: {reading}"
        if isinstance(reading, Refusal)
        else f"reads {_size(reading)}"
        for reader, reading in readings.items()
    }
    is_read = any(isinstance(reading, Decoded) for reading in readings.values())
    return Verdict(path, format, Outcome.ONLY_THEY if is_read else Outcome.NONE, message, others)


def _read(
    path: Path,
    format: str,
    mine: Decoded,
    is_converted: bool,
    readings: _Readings,
) -> Verdict:
    """Return the verdict on a file that we read."""
    others, dissent, agreeing = {}, [], 0
    usual = CONVERTED if is_converted else TOLERANCES.get(format, EXACT)
    for reader, reading in readings.items():
        if isinstance(reading, Refusal):
            others[reader.name] = f"refuses: {reading}"
            continue
        levels = max(reader.levels, _levels_of_rounding(mine, reading))
        agrees, others[reader.name] = _agreement(mine, reading, _widened(usual, levels))
        if agrees:
            agreeing += 1
        else:
            dissent.append(reader.name)
    if agreeing:
        outcome = Outcome.AGREES
    elif dissent:
        outcome = Outcome.DIFFERS
    else:
        outcome = Outcome.ONLY_WE if readings else Outcome.UNCHECKED
    return Verdict(path, format, outcome, "", others, tuple(dissent))


def _levels_of_rounding(mine: Decoded, other: Decoded) -> float:
    """Return the levels that two readings may differ because of their depths.

    Ours may have 8 bits where a file has fewer, or alpha to divide by, not where it has more.
    """
    if other.bits < mine.bits:
        return FEWER_BITS
    if other.bits == mine.bits or mine.bits > 8:
        return 0.0
    has_few_values = len(np.unique(other.samples[..., :3])) <= 256
    has_soft_alpha = bool(((mine.samples[..., 3] % _OPAQUE) > 0).any())
    return ROUNDED if has_few_values or has_soft_alpha else 0.0


def _widened(tolerance: Tolerance, levels: float) -> Tolerance:
    return Tolerance(max(tolerance.most, levels), max(tolerance.mean, levels))


def _agreement(mine: Decoded, other: Decoded, tolerance: Tolerance) -> tuple[bool, str]:
    """Return whether two readings agree, and how they compare."""
    apart = difference(mine, other)
    if apart is None:
        return False, f"differs in size: {_size(other)}, ours {_size(mine)}"
    agrees = apart.most <= tolerance.most and apart.mean <= tolerance.mean
    return agrees, f"{'agrees' if agrees else 'differs'}: {apart}"


def _size(image: Decoded) -> str:
    height, width = image.samples.shape[:2]
    return f"{width}x{height}"
