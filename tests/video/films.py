"""What tests of the output share: films made by hand, and frames for their encoders."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from upscale.video.encoding import CODECS, Encoder, Encoding, encoder_for, plane_format
from upscale.video.film import Colour, Film, HdrMetadata, Mastering, VideoFrame

SIZE = (64, 48)
HOLDER = {"prores": "out.mov", "ffv1": "out.mkv"}
HERE = [name for name in CODECS if "nvenc" not in name]


HDR10 = HdrMetadata(
    Mastering(
        tuple(
            (Fraction(x, 50000), Fraction(y, 50000))
            for x, y in ((34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450))
        ),
        (Fraction(1, 10000), Fraction(1000)),
    ),
    (1000, 400),
)


def film(planes: str = "yuv420p", **changes) -> Film:
    """A film of the usual kind, with some facts changed."""
    usual = Film(
        path=Path("in.mp4"),
        stream=0,
        width=32,
        height=24,
        planes=plane_format(planes),
        source_format=planes,
        colour=Colour("bt709", full_range=False, primaries=1, transfer=1, space=1),
        time_base=Fraction(1, 12800),
        plan=(0, 512),
        rate=Fraction(25),
        duration=None,
        sample_aspect=None,
        display_matrix=None,
        rotation=0,
        interlaced=False,
        top_first=False,
        hdr=None,
        timecode=None,
        codec="h264",
        container="mov",
    )
    return replace(usual, **changes)


def settle(source: Film, output: str = "out.mkv", size: tuple[int, int] = SIZE, **asked) -> Encoder:
    """An encoder for a film, tried."""
    return encoder_for(source, Encoding(**asked), Path(output), size)


def frames(encoder: Encoder, times: Sequence[int], first: int = 0) -> Iterator[VideoFrame]:
    """Frames for an encoder: a moving slope under noise that depends on the frame's number."""
    for number, time in enumerate(times, first):
        yield VideoFrame(time, tuple(_planes(encoder, number)))


def _planes(encoder: Encoder, number: int) -> Iterator[np.ndarray]:
    planes = encoder.planes
    whole = (encoder.height, encoder.width)
    part = (
        -(-encoder.height // (1 << planes.chroma_down)),
        -(-encoder.width // (1 << planes.chroma_across)),
    )
    shapes = [whole] + ([] if planes.kind == "grey" else [part] * 2) + [whole] * planes.alpha
    random = np.random.default_rng(number)
    for index, shape in enumerate(shapes):
        down, across = np.indices(shape)
        level = (
            50 + 30 * index + (2 * across + down + 3 * number) % 80 + random.integers(0, 8, shape)
        )
        yield (level << (planes.depth - 8)).astype(np.uint8 if planes.depth == 8 else np.uint16)


def ffprobe(path: Path, *flags: str) -> dict:
    """What another program says of a file; skips the test where that program is not."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-of", "json", *flags, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
