from __future__ import annotations

import numpy as np
import pytest
import torch

from upscale.engine import yuv
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.engine.yuv import Layout, clipped_part, from_rgb, restore_clipped, to_rgb
from upscale.errors import MemoryExhaustedError
from upscale.jobs.video_frames import FrameUpscaler
from upscale.models import SRVGGSpec
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format

COLOUR = Colour("bt709", full_range=False, primaries=1, transfer=1, space=1)


class Doubling:
    """Repeat pixels, and record the input."""

    device = torch.device("cpu")

    def __init__(self):
        self.seen = []

    def run_tensor(self, image, *, size=None):
        self.seen.append(image)
        assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


def source(name, colour=COLOUR, size=(16, 12)):
    return FrameFormat(*size, plane_format(name), colour)


def target(name, colour=COLOUR, size=(32, 24)):
    return FrameFormat(*size, plane_format(name), colour)


def upscaled(upscaler, frame):
    return upscaler.upscale(upscaler.load(frame)).frame()


def flat(name, codes, pts=0, repeats=False, size=(16, 12)):
    """Return a frame of one colour, given by its sample values."""
    planes = plane_format(name)
    kind = np.uint8 if planes.depth == 8 else np.uint16
    made = []
    for number, code in enumerate(codes):
        chroma = planes.kind == "yuv" and number in (1, 2)
        width = -(-size[0] >> planes.chroma_across) if chroma else size[0]
        height = -(-size[1] >> planes.chroma_down) if chroma else size[1]
        made.append(np.full((height, width), code, kind))
    return VideoFrame(pts, tuple(made), repeats)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("yuv420p", (16, 128, 128)),
        ("yuv420p", (235, 90, 240)),
        ("yuv420p", (250, 128, 128)),  # whiter than white
        ("yuv420p", (4, 128, 128)),  # blacker than black
        ("yuv422p10le", (700, 300, 600)),
        ("yuv444p12le", (3000, 1000, 2500)),
        ("gray", (77,)),
        ("gbrp", (10, 200, 90)),
        ("yuva420p", (100, 90, 140, 37)),
    ],
)
def test_flat_colours_are_preserved_within_one_level(name, codes):
    upscaler = FrameUpscaler(source(name), target(name), Doubling())
    large = upscaled(upscaler, flat(name, codes, pts=7))
    assert large.pts == 7
    for plane, code, small in zip(large.planes, codes, flat(name, codes).planes, strict=True):
        assert plane.shape == (small.shape[0] * 2, small.shape[1] * 2)
        assert plane.dtype == small.dtype
        assert np.abs(plane.astype(int) - code).max() <= 1


def test_conversion_of_depth_and_chroma_preserves_the_colour():
    upscaler = FrameUpscaler(source("yuv420p"), target("yuv444p10le"), Doubling())
    large = upscaled(upscaler, flat("yuv420p", (120, 100, 150)))
    for plane, code in zip(large.planes, (480, 400, 600), strict=True):
        assert plane.shape == (24, 32)
        assert np.abs(plane.astype(int) - code).max() <= 2


def test_grey_video_becomes_neutral_yuv():
    network = Doubling()
    upscaler = FrameUpscaler(source("gray", Colour("bt709", True)), target("yuv420p"), network)
    large = upscaled(upscaler, flat("gray", (128,)))
    assert network.seen[0].shape == (1, 1, 12, 16)
    assert np.abs(large.planes[0].astype(int) - (16 + 219 * 128 / 255)).max() <= 1
    assert all((plane == 128).all() for plane in large.planes[1:])


def test_repeated_frame_is_computed_once_and_has_its_own_time():
    network = Doubling()
    upscaler = FrameUpscaler(source("yuv420p"), target("yuv420p"), network)
    first = upscaled(upscaler, flat("yuv420p", (99, 128, 128), pts=3))
    second = upscaled(upscaler, flat("yuv420p", (99, 128, 128), pts=5, repeats=True))
    third = upscaled(upscaler, flat("yuv420p", (98, 128, 128), pts=6))
    assert len(network.seen) == upscaler.computed == 2
    assert [frame.pts for frame in (first, second, third)] == [3, 5, 6]
    assert second.repeats and np.shares_memory(second.planes[0], first.planes[0])
    assert third.planes[0][0, 0] == 98


def test_first_frame_is_computed_even_if_flagged_as_repeated():
    network = Doubling()
    upscaler = FrameUpscaler(source("yuv420p"), target("yuv420p"), network)
    upscaled(upscaler, flat("yuv420p", (99, 128, 128), repeats=True))
    assert len(network.seen) == 1


def noise(name, seed, size=(36, 26), pts=0):
    planes = plane_format(name)
    random = np.random.default_rng(seed)
    shapes = [plane.shape for plane in flat(name, (0, 0, 0), size=size).planes]
    kind = np.uint8 if planes.depth == 8 else np.uint16
    return VideoFrame(
        pts, tuple(random.integers(0, 1 << planes.depth, shape).astype(kind) for shape in shapes)
    )


@pytest.fixture
def upscaler(random_network):
    spec = SRVGGSpec(2, features=8, convolutions=3)
    network = random_network(spec)
    return Upscaler(Model("random", network, 2, 3, True, spec.describe()), device="cpu", tile=16)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_frames_equal_those_upscaled_as_arrays(name, upscaler):
    """The reference passes arrays, not tensors, between the steps."""
    frame, colour = noise(name, 1), COLOUR
    form = Layout(
        plane_format(name).depth, 1, plane_format(name).chroma_down, "yuv", colour.matrix, False
    )
    rgb = to_rgb(frame.planes, form)
    seen = rgb[0].clamp(0, 1).permute(1, 2, 0).contiguous().numpy()
    large = torch.from_numpy(upscaler.upscale(seen)).permute(2, 0, 1)[None].contiguous()
    expected = from_rgb(restore_clipped(large, clipped_part(rgb)), form)
    made = upscaled(
        FrameUpscaler(source(name, size=(36, 26)), target(name, size=(72, 52)), upscaler), frame
    )
    for plane, same in zip(made.planes, expected, strict=True):
        assert np.array_equal(plane, same)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryExhaustedError("tile")]
)
def test_colour_conversion_falls_back_to_the_host_without_device_memory(
    error, upscaler, monkeypatch
):
    name, frame = "yuv420p", noise("yuv420p", 2)
    shapes = source(name, size=(36, 26)), target(name, size=(72, 52))
    expected = upscaled(FrameUpscaler(*shapes, upscaler), frame)
    tried, real = [], yuv.to_rgb

    def scarce(planes, form, device):
        tried.append(torch.device(device).type)
        if tried[-1] != "cpu":
            raise error
        return real(planes, form, device)

    monkeypatch.setattr(yuv, "to_rgb", scarce)
    upscaler = FrameUpscaler(*shapes, upscaler)
    upscaler._colour_device = torch.device("meta")
    for _ in range(2):
        made = upscaled(upscaler, frame)
        assert all(map(np.array_equal, made.planes, expected.planes))
    assert tried == ["meta", "cpu", "cpu"]


def test_other_errors_are_raised(upscaler, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(yuv, "to_rgb", broken)
    upscaler = FrameUpscaler(source("yuv420p"), target("yuv420p"), upscaler)
    upscaler._colour_device = torch.device("meta")
    with pytest.raises(RuntimeError, match="illegal"):
        upscaled(upscaler, flat("yuv420p", (16, 128, 128)))


def test_frames_loaded_ahead_keep_their_order():
    upscaler = FrameUpscaler(source("yuv420p"), target("yuv420p"), Doubling())
    codes = [(30, 128, 128), (30, 128, 128), (90, 128, 128), (150, 128, 128), (150, 128, 128)]
    loaded = [
        upscaler.load(flat("yuv420p", code, number, repeats=number in (1, 4)))
        for number, code in enumerate(codes)
    ]
    large = [upscaler.upscale(each) for each in loaded]
    made = [each.frame() for each in large]
    assert [(frame.pts, frame.planes[0][0, 0]) for frame in made] == [
        (number, code[0]) for number, code in enumerate(codes)
    ]
    assert upscaler.computed == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_frames_equal_cpu_frames(random_network):
    spec = SRVGGSpec(2, features=8, convolutions=3)
    model = Model("random", random_network(spec), 2, 3, True, spec.describe())
    shapes = source("yuv420p", size=(36, 26)), target("yuv420p", size=(72, 52))
    sequences = []
    for device in ("cpu", "cuda"):
        upscaler = FrameUpscaler(*shapes, Upscaler(model, device=device, precision="fp32"))
        loaded = [upscaler.load(noise("yuv420p", seed, pts=seed)) for seed in range(9)]
        sequences.append([each.frame() for each in [upscaler.upscale(frame) for frame in loaded]])
    for here, there in zip(*sequences, strict=True):
        for plane, same in zip(here.planes, there.planes, strict=True):
            assert np.abs(plane.astype(int) - same).max() <= 1
