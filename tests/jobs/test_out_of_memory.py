"""Memory that runs out once, at any place, changes no frame of an animation or a video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.memory_failures import ERRORS, assert_equal, failing, spread
from upscale.engine import tile_runner, yuv
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.images import Frame, Image, ImageSequence
from upscale.jobs.image import upscale_image
from upscale.jobs.sequence import upscale_sequence
from upscale.jobs.video_frames import FrameOptions, FrameUpscaler
from upscale.models import SRVGGSpec
from upscale.tiling.schedule import NO_MINIMUM
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format

COLOUR = Colour("bt709", full_range=False, primaries=1, transfer=1, space=1)
WIDTH, HEIGHT = 22, 18


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_runner, "minimum_tile_for", lambda device: NO_MINIMUM)
        yield


@pytest.fixture(scope="module")
def model(random_network):
    spec = SRVGGSpec(2, features=8, convolutions=2)
    return Model.from_network("random", random_network(spec))


def samples(dtype, *shape):
    random = np.random.default_rng(sum(shape))
    if dtype == np.float32:
        return random.random(shape, np.float32)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype)


def animation(model, dtype):
    upscaler = Upscaler(model, device="cpu", tile=32, kernels=False)
    images = [
        Image(samples(dtype, HEIGHT, WIDTH + n, 3), samples(dtype, HEIGHT, WIDTH + n))
        for n in range(2)
    ]
    frames = [Frame(image, Fraction(1, 10)) for image in images]
    source = ImageSequence(lambda: iter(frames), len(frames), 0, True, "webp")

    def upscale(image, size, progress):
        return upscale_image(image, size, upscaler, progress, keep_colour=True)

    large, _ = upscale_sequence(source, (WIDTH * 2, HEIGHT * 2), upscale)
    return [plane for each in large.frames() for plane in (each.image.pixels, each.image.alpha)]


class Still:
    """Motion of a picture that does not move, so that every frame is blended."""

    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    trust = np.ones((HEIGHT, WIDTH), np.float32)


def video(model, name, options):
    upscaler = Upscaler(model, device="cpu", tile=32, kernels=False)
    formats = [
        FrameFormat(WIDTH * scale, HEIGHT * scale, plane_format(name), COLOUR) for scale in (1, 2)
    ]
    frames = FrameUpscaler(*formats, upscaler, options)
    if options.steady:
        frames._estimator.next = lambda planes, is_consecutive: Still() if is_consecutive else None
    made = []
    for number in range(3):
        planes = planes_of(name, number)
        loaded = frames.load(VideoFrame(number, planes, False), number - 1)
        made += frames.upscale(loaded).frame().planes
    return made


def planes_of(name, number):
    planes = plane_format(name)
    chroma = -(-HEIGHT >> planes.chroma_down), -(-WIDTH >> planes.chroma_across)
    shapes = [(HEIGHT, WIDTH), chroma, chroma, (HEIGHT, WIDTH)][: 4 if planes.alpha else 3]
    random = np.random.default_rng(number)
    kind = np.uint8 if planes.depth == 8 else np.uint16
    return tuple(random.integers(0, 1 << planes.depth, shape).astype(kind) for shape in shapes)


RUNS = {
    "animation": lambda model: animation(model, np.uint8),
    "animation, 16 bits": lambda model: animation(model, np.uint16),
    "animation, floats": lambda model: animation(model, np.float32),
    "video": lambda model: video(model, "yuv420p", FrameOptions(keep_colour=True)),
    "steady video, alpha": lambda model: video(model, "yuva420p", FrameOptions(steady=0.6)),
    "steady video, 10 bits": lambda model: video(
        model, "yuv420p10le", FrameOptions(keep_colour=True, steady=0.6)
    ),
}


@pytest.fixture(scope="module")
def expected(model):
    """The result of each run, and the allocations and copies in it."""
    results = {}
    for name, run in RUNS.items():
        result = run(model)
        with failing() as counter:
            run(model)
        results[name] = result, counter.places
    return results


def check(result, expected):
    assert len(result) == len(expected)
    for plane, same in zip(result, expected, strict=True):
        assert_equal(plane, same)


@pytest.mark.parametrize("name", RUNS)
@settings(max_examples=cases(24))
@given(data=st.data())
def test_memory_that_runs_out_at_any_allocation_or_copy_changes_nothing(
    name, data, model, expected
):
    result, places = expected[name]
    place = data.draw(st.integers(0, len(places) - 1))
    with failing(place, data.draw(st.sampled_from(ERRORS))):
        check(RUNS[name](model), result)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_memory_that_runs_out_all_along_a_run_changes_nothing(name, model, expected):
    result, places = expected[name]
    for place in spread(len(places)):
        with failing(place, ERRORS[place % len(ERRORS)]):
            check(RUNS[name](model), result)


def test_a_frame_that_is_computed_again_is_blended_with_the_one_before(model, monkeypatch):
    """The result for the frame that failed must not be taken for the one before it."""
    options = FrameOptions(steady=0.6)
    result, real, calls = video(model, "yuv420p", options), yuv.to_planes, []

    def scarce(rgb, layout):
        calls.append(rgb)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(rgb, layout)

    monkeypatch.setattr(yuv, "to_planes", scarce)
    assert all(map(np.array_equal, video(model, "yuv420p", options), result))
    assert len(calls) == 4
