from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from upscale.errors import ImageError
from upscale.images import Frame, Image, ImageSequence, Metadata
from upscale.jobs.sequence import upscale_sequence


def image(value, size=(4, 3), alpha=None, dtype=np.uint8):
    pixels = np.full((size[1], size[0], 3), value, dtype)
    plane = None if alpha is None else np.full(pixels.shape[:2], alpha, dtype)
    return Image(pixels, plane, Metadata(comment=str(value)))


def sequence(*images, seconds=Fraction(1, 10), plays=3):
    frames = [Frame(item, seconds) for item in images]
    return ImageSequence(lambda: iter(frames), len(frames), plays, seconds is not None, "gif")


class Counter:
    """Upscaler that repeats pixels and records its calls."""

    def __init__(self):
        self.values = []

    def __call__(self, image, size, progress=None):
        self.values.append(int(image.pixels.flat[0]))
        if progress is not None:
            for done in (1, 2):
                progress(done, 2)
        rows = np.arange(size[1]) * image.height // size[1]
        columns = np.arange(size[0]) * image.width // size[0]
        alpha = None if image.alpha is None else image.alpha[np.ix_(rows, columns)]
        return Image(image.pixels[rows][:, columns], alpha), f"report {len(self.values)}"


def test_identical_frames_are_computed_once_and_keep_their_order():
    upscale = Counter()
    source = sequence(*(image(value) for value in (5, 7, 5, 5, 9, 7)))
    large, report = upscale_sequence(source, (8, 6), upscale)
    assert upscale.values == [5, 7, 9]
    assert (large.count, large.plays, report) == (6, 3, "report 3")
    for _ in range(2):  # the result can be iterated more than once
        frames = list(large.frames())
        assert [int(frame.image.pixels[-1, -1, 0]) for frame in frames] == [5, 7, 5, 5, 9, 7]
        assert all(frame.image.pixels.shape == (6, 8, 3) for frame in frames)
        assert all(frame.seconds == Fraction(1, 10) for frame in frames)
        assert [frame.image.metadata.comment for frame in frames] == list("575597")


def test_frames_that_differ_in_alpha_depth_or_shape_are_distinct():
    upscale = Counter()
    images = [
        image(0),
        image(0, alpha=0),
        image(0, alpha=255),
        image(0, dtype=np.uint16),
        image(0, size=(3, 4)),
    ]
    large, _ = upscale_sequence(sequence(*images), (8, 6), upscale)
    assert len(upscale.values) == 5
    back = [frame.image for frame in large.frames()]
    assert [p.alpha is None or int(p.alpha.max()) for p in back] == [True, 0, 255, True, True]
    assert back[3].pixels.dtype == np.uint16


def test_pages_of_other_sizes_keep_the_ratio():
    pages = sequence(image(1, (4, 3)), image(2, (10, 1)), seconds=None)
    large, _ = upscale_sequence(pages, (10, 8), Counter())
    sizes = [(p.image.width, p.image.height) for p in large.frames()]
    assert sizes == [(10, 8), (25, 3)]


def test_progress_counts_all_frames():
    steps = []
    source = sequence(image(1), image(2), image(1))
    upscale_sequence(source, (8, 6), Counter(), lambda done, total: steps.append((done, total)))
    assert steps == [(1, 6), (2, 6), (3, 6), (4, 6)]


def test_animation_without_frames_raises():
    with pytest.raises(ImageError):
        upscale_sequence(sequence(), (8, 6), Counter())
