from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from tests.jobs.test_video import LOSSLESS, Doubling, decoded, upscale
from tests.video.clips import make_kind
from upscale import selection
from upscale.errors import OutputError
from upscale.images import Frame, Image, ImageSequence, Metadata, Origin
from upscale.jobs import upscale_image
from upscale.jobs.colour import keeps_colour_of
from upscale.jobs.video import VideoSettings
from upscale.options import TextureOptions
from upscale.video.probe import probe
from upscale.video.reader import read_frames

COLOURS = np.array([[[60, 90, 120], [150, 120, 200]]], np.uint8).repeat(24, 0).repeat(24, 1)


class Shifting:
    """Repeats pixels four times, darker than they are, as networks do at night."""

    def run(self, array, *, scale=None, size=None, progress=None, seamless=""):
        white = 1.0 if array.dtype == np.float32 else float(np.iinfo(array.dtype).max)
        large = array.repeat(4, 0).repeat(4, 1).astype(np.float64) * 0.9
        large = large if array.dtype == np.float32 else np.rint(large)
        assert large.max() <= white
        return SimpleNamespace(pixels=large.astype(array.dtype), report=None)


def mean_error(result: np.ndarray, source: np.ndarray) -> float:
    cells = result.astype(np.float64).reshape(24, 4, 48, 4, -1).mean((1, 3))
    return float(np.abs(cells - source).mean((0, 1)).max())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_are_kept_in_every_depth(dtype):
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = (COLOURS / 255 * white).astype(dtype)
    plain, _ = upscale_image(Image(pixels), (192, 96), Shifting())
    kept, _ = upscale_image(Image(pixels), (192, 96), Shifting(), keep_colour=True)
    assert mean_error(plain.pixels, pixels) > white * 5 / 255
    assert mean_error(kept.pixels, pixels) < white / 255


def test_light_beyond_white_is_corrected_in_the_values_of_the_network():
    light = (COLOURS / 255).astype(np.float32)
    light[:4, :4] = 30
    kept, _ = upscale_image(
        Image(light, metadata=Metadata(cicp=(1, 8))), (192, 96), Shifting(), keep_colour=True
    )
    assert np.allclose(kept.pixels[48:, 100:], light[12:, 25:].repeat(4, 0).repeat(4, 1), rtol=0.02)


def test_alpha_is_not_corrected_and_hidden_colours_do_not_count():
    alpha = np.full((24, 48), 255, np.uint8)
    alpha[:, 24:] = 0
    alpha[0, 0] = 128
    pixels = COLOURS.copy()
    hidden = pixels.copy()
    hidden[:, 24:] = 255
    first, _ = upscale_image(Image(pixels, alpha), (192, 96), Shifting(), keep_colour=True)
    second, _ = upscale_image(Image(hidden, alpha), (192, 96), Shifting(), keep_colour=True)
    plain, _ = upscale_image(Image(pixels, alpha), (192, 96), Shifting())
    assert np.array_equal(first.pixels[:, :96], second.pixels[:, :96])
    assert np.abs(first.pixels[:, :96].astype(int) - pixels[0, 0]).max() <= 1
    assert np.array_equal(first.alpha, plain.alpha)


def test_normal_maps_are_not_corrected():
    texture = TextureOptions(normal_map=True)
    plain, _ = upscale_image(Image(COLOURS), (192, 96), Shifting(), texture=texture)
    kept, _ = upscale_image(
        Image(COLOURS), (192, 96), Shifting(), texture=texture, keep_colour=True
    )
    assert np.array_equal(plain.pixels, kept.pixels)
    assert keeps_colour_of(Image(COLOURS), "on", texture) is None


def test_the_mode_decides_and_auto_looks_at_the_image(monkeypatch):
    seen = []

    def looks_clean(samples):
        seen.append([(sample.pixels.shape, sample.quality) for sample in samples])
        return False

    monkeypatch.setattr(selection, "looks_clean", looks_clean)
    image = Image(COLOURS, origin=Origin("jpeg", quality=70))
    assert keeps_colour_of(image, "on") is True
    assert keeps_colour_of(image, "off") is False
    assert not seen
    assert keeps_colour_of(image, "auto") is False
    assert seen == [[((24, 48, 3), 70)]]


def test_an_animation_is_decided_once(monkeypatch):
    seen = []
    monkeypatch.setattr(selection, "looks_clean", lambda samples: not seen.append(len(samples)))
    frames = [Frame(Image(COLOURS), Fraction(1, 10))] * 3
    sequence = ImageSequence(lambda: iter(frames), 3, 0, animated=True, format="gif")
    assert keeps_colour_of(sequence, "auto") is True
    assert seen == [3]


class Darkening(Doubling):
    """Doubles the size, and darkens as networks do at night."""

    def run_tensor(self, image, *, size=None):
        return super().run_tensor(image, size=size) * 0.9


def luma(path) -> np.ndarray:
    return np.array([frame.planes[0].mean() for frame in read_frames(probe(path))])


@pytest.mark.parametrize("kind", ["cfr", "deep", "grey", "alpha", "hdr10"])
def test_videos_keep_their_colours(kind, tmp_path):
    source, output = make_kind(kind, tmp_path), tmp_path / "out.mkv"
    depth = probe(source).planes.depth
    for mode, error in (("off", 6), ("on", 1)):
        settings = VideoSettings(LOSSLESS, keep_colour=mode, overwrite=True)
        report = upscale(source, output, Darkening(), settings=settings)
        assert report.colour_kept == (mode == "on")
        difference = np.abs(luma(output) - luma(source)).max() / 2 ** (depth - 8)
        assert (difference > 4) if mode == "off" else (difference < error)


def test_a_video_is_decided_once_also_if_it_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    answers, asked = [True, True, False], []
    monkeypatch.setattr(
        selection, "looks_clean", lambda samples: asked.append(len(samples)) or answers.pop(0)
    )
    settings = VideoSettings(LOSSLESS, keep_colour="auto")
    source, whole, output = make_kind("vfr", tmp_path), tmp_path / "a.mkv", tmp_path / "b.mkv"
    upscale(source, whole, Darkening(), settings=settings)
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Darkening(20, KeyboardInterrupt()), settings=settings)
    with pytest.raises(OutputError, match="another treatment of colours"):
        upscale(source, output, Darkening(), settings=replace(settings, keep_colour="off"))
    report = upscale(source, output, Darkening(), settings=settings)
    assert report.colour_kept and report.resumed == 16
    assert decoded(output) == decoded(whole)
    assert len(asked) == 2 and answers == [False]
