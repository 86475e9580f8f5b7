"""Files that we read, or refuse, unlike other readers, on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.images.agreement.verdicts import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Departure:
    """Files for which another outcome than agreement is intended.

    Attributes:
        outcome: The outcome.
        reason: Why it is intended.
        files: Ends of their paths.
        may_agree: Whether newer versions of a package read them as others do.
    """

    outcome: Outcome
    reason: str
    files: tuple[str, ...]
    may_agree: bool = False


DEPARTURES = (
    Departure(
        Outcome.DIFFERS,
        "browsers leave the background of a GIF transparent; others paint its background colour",
        ("image-rs/border_touching_layers.gif",),
    ),
    Departure(
        Outcome.DIFFERS,
        "it stores 8 bits of grey and 8 of alpha; others take them for 16 bits of colour or grey",
        ("pillow/la.tga",),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "cut off: others invent the rest",
        (
            "cases/j2k-missing-tiles.j2k",
            "generated/truncated.gif",
            "generated/truncated.jpg",
            "generated/truncated.png",
            "pillow/truncated_image.png",
            "wuffs/hippopotamus.interlaced.truncated.gif",
        ),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "its checksums say that it is damaged",
        ("image-png/xcsn0g01.png", "image-png/xhdn0g08.png"),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "an animation without all its frames: others read the first image only",
        ("pillow/chunk_no_fdat.png", "pillow/sequence_gap.png"),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "its header or directory is damaged",
        (
            "libavif/alpha_noispe.avif",
            "pillow/badheadersize.bmp",
        ),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "its directory is damaged, which newer versions of tifffile accept",
        ("pillow/crash-0da013a13571cc8eb457a39fee8db18f8a3c7127.tif",),
        may_agree=True,
    ),
    Departure(
        Outcome.ONLY_THEY,
        "its masks of 0 bits hold no pixels",
        ("pillow/zero_mask_totals.dds",),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "signed samples: nothing says which values are black and white",
        ("image-tiff/int16_zstd.tif",),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "a kind of file that is refused: a cursor, a raw photo of which others read the thumbnail",
        ("cases/cur.cur", "cases/photo.cr2"),
    ),
    Departure(
        Outcome.ONLY_THEY,
        "saved without its merged image: others compose the layers, or show a white one",
        ("cases/psd-no-composite.psd",),
    ),
)

FAULTS = (Departure(Outcome.ONLY_THEY, "a known fault", ("cases/scene.hdr",)),)
"""Files that are read wrongly or refused, without a good reason. Remove what is mended."""


def reason(verdict: Verdict) -> str | None:
    """Return why an outcome is intended; None where it is not."""
    return next(
        (
            departure.reason
            for departure in DEPARTURES + FAULTS
            if departure.outcome is verdict.outcome and _names(departure, verdict.path)
        ),
        None,
    )


def unintended(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts that we differ or refuse what others read, without a reason."""
    outcomes = (Outcome.DIFFERS, Outcome.ONLY_THEY)
    return [
        verdict for verdict in verdicts if verdict.outcome in outcomes and reason(verdict) is None
    ]


def outdated(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts on files that are listed here, though we read them as others do."""
    return [
        verdict
        for verdict in verdicts
        if verdict.outcome is Outcome.AGREES
        and any(
            _names(departure, verdict.path) and not departure.may_agree for departure in DEPARTURES
        )
    ]


def _names(departure: Departure, path: Path) -> bool:
    return path.as_posix().endswith(departure.files)
