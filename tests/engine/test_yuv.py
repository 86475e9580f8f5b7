from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.engine.yuv import Layout, alpha_layout, clipped_part, from_rgb, restore_clipped, to_rgb

MATRICES = ("bt601", "bt709", "bt2020")
RANGES = (False, True)
SUBSAMPLINGS = ((1, 1), (1, 0), (0, 0))
LOCATIONS = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}
PLACES = {1: (0, 0.5), 2: (0.5, 0.5), 3: (0, 0), 4: (0.5, 0), 5: (0, 1), 6: (0.5, 1)}
"""Columns and rows from the first pixel of a group to its chroma sample, by FFmpeg's location."""

FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact:param0=0:param1=0.5"
"""swscale at its most exact, with the cubic of Catmull and Rom."""


def layout(depth=8, across=1, down=1, matrix="bt709", full=False, location=0):
    return Layout(depth, across, down, "yuv", matrix, full, location)


def grey(depth=8, full=False):
    return Layout(depth, 0, 0, "grey", "rgb", full)


def sample_type(depth):
    return np.uint8 if depth == 8 else np.uint16


def patches(luma, chroma, form, side=32):
    """Return planes of flat squares, one for each of (N,) luma and (N, 2) chroma codes."""
    columns = 64
    planes = []
    for codes, across, down in (
        (luma, 0, 0),
        *((values, form.chroma_across, form.chroma_down) for values in np.transpose(chroma)),
    ):
        grid = np.resize(codes, (-(-len(codes) // columns), columns))
        plane = np.repeat(np.repeat(grid, side >> down, 0), side >> across, 1)
        planes.append(np.ascontiguousarray(plane, sample_type(form.depth)))
    return planes


def errors_in_squares(large, small, form, side=32):
    """Return the largest error of upscaled `patches` in the centres of their squares."""
    worst = 0
    for place, (after, before) in enumerate(zip(large, small, strict=True)):
        down, across = (form.chroma_down, form.chroma_across) if place else (0, 0)
        height, width = side >> down, side >> across
        codes = before[::height, ::width].astype(int)
        squares = after.reshape(len(codes), 2 * height, -1, 2 * width).swapaxes(1, 2)
        middle = squares[:, :, height // 2 : -height // 2, width // 2 : -width // 2]
        worst = max(worst, np.abs(middle - codes[:, :, None, None]).max())
    return worst


def upscaled(rgb, factor=2):
    """Return the result of an identity network with inputs and outputs in 0..1."""
    inside = rgb.clamp(0, 1)
    large = inside.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return restore_clipped(large, clipped_part(rgb))


def worst(ours, theirs):
    return max(
        int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(ours, theirs, strict=True)
    )


def photograph(data, name="city.webp", size=(322, 240)):
    image = Image.open(data / "photos/scenes" / name).convert("RGB")
    pixels = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)[None]


def swscale(planes, source, target, options):
    """Convert planes from FFmpeg's format `source` to `target` with swscale."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], source)
    for buffer, plane in zip(frame.planes, planes, strict=True):
        rows = np.zeros((buffer.height, buffer.line_size // plane.itemsize), plane.dtype)
        rows[:, : plane.shape[1]] = plane
        buffer.update(rows.tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()
    steps = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add("scale", f"flags={FLAGS}:{options}"),
        graph.add("format", target),
        graph.add("buffersink"),
    ]
    for one, following in itertools.pairwise(steps):
        one.link_to(following)
    graph.configure()
    steps[0].push(frame)
    result = steps[-1].pull()
    planes = [
        np.frombuffer(plane, sample_type(8 if target in {"gbrp", "yuv420p"} else 16)).reshape(
            plane.height, -1
        )[:, : plane.width]
        for plane in result.planes
    ]
    return [planes[2], planes[0], planes[1]] if target.startswith("gbr") else planes


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", RANGES)
def test_every_8_bit_colour_survives_the_round_trip(matrix, full):
    blue, red = (np.ascontiguousarray(a, np.uint8) for a in np.mgrid[:256, :256])
    form = layout(across=0, down=0, matrix=matrix, full=full)
    for luma in range(256):
        planes = [np.full((256, 256), luma, np.uint8), blue, red]
        assert worst(from_rgb(to_rgb(planes, form), form), planes) == 0, luma


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", RANGES)
@pytest.mark.parametrize("across, down", SUBSAMPLINGS)
def test_flat_colours_survive_an_identity_network(depth, matrix, full, across, down):
    generator = np.random.default_rng(depth)
    form = layout(depth, across, down, matrix, full)
    luma = np.linspace(0, form.highest, 256).round().astype(int)
    chroma = generator.integers(0, form.highest + 1, (len(luma), 2))
    ends = generator.choice([0, form.highest], (128, 2))
    planes = patches(np.r_[luma, luma[::2]], np.r_[chroma, ends], form)
    large = from_rgb(upscaled(to_rgb(planes, form)), form)
    assert errors_in_squares(large, planes, form) <= (0 if depth < 16 else 1)


@pytest.mark.parametrize("location", LOCATIONS)
def test_flat_colours_survive_wherever_chroma_lies(location):
    for down, full in itertools.product((0, 1), RANGES):
        form = layout(down=down, full=full, location=location)
        planes = [
            np.full(plane.shape, code, np.uint8)
            for plane, code in zip(
                from_rgb(torch.zeros(1, 3, 21, 35), form), (240, 30, 250), strict=True
            )
        ]
        large = from_rgb(upscaled(to_rgb(planes, form)), form)
        assert [plane.shape for plane in large] == [(42, 70), *[(21 if down else 42, 35)] * 2]
        for plane, code in zip(large, (240, 30, 250), strict=True):
            assert (plane == code).all()


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("full", RANGES)
def test_grey_is_exact(depth, full):
    form = grey(depth, full)
    plane = np.arange(1 << depth).astype(sample_type(depth)).reshape(16, -1)
    rgb = to_rgb([plane], form)
    assert rgb.shape == (1, 1, *plane.shape)
    (large,) = from_rgb(upscaled(rgb, 3), form)
    if full:
        assert (large == plane.repeat(3, 0).repeat(3, 1)).all()
    assert (from_rgb(rgb, form)[0] == plane).all()
    coloured = layout(depth, full=full)
    planes = from_rgb(rgb.expand(-1, 3, -1, -1), coloured)
    assert (planes[0] == plane).all()
    assert all((chroma == 1 << (depth - 1)).all() for chroma in planes[1:])


def test_alpha_has_full_range():
    (rgb,) = to_rgb([np.array([[0, 255, 51]], np.uint8)], alpha_layout(8))
    assert np.allclose(rgb[0, 0], [0, 1, 0.2])


@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("full", RANGES)
def test_planes_of_rgb_keep_their_order_and_values(depth, full):
    form = Layout(depth, 0, 0, "rgb", "rgb", full)
    planes = list(
        np.random.default_rng(1).integers(0, 1 << depth, (3, 33, 17)).astype(sample_type(depth))
    )
    rgb = to_rgb(planes, form)
    red = (int(planes[0][4, 5]) - form.black) / form.luma_span
    assert rgb[0, 0, 4, 5].item() == pytest.approx(red, abs=1e-6)
    assert worst(from_rgb(rgb, form), planes) == 0


BARS = [(1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0)]


@pytest.mark.parametrize(
    "matrix, depth, level, codes",
    [
        (  # Rec. ITU-R BT.801 (100/0/75/0, EBU)
            "bt601", 8, 0.75,
            [(162, 44, 142), (131, 156, 44), (112, 72, 58), (84, 184, 198), (65, 100, 212),
             (35, 212, 114), (180, 128, 128), (16, 128, 128)],
        ),
        (
            "bt601", 8, 1.0,
            [(210, 16, 146), (170, 166, 16), (145, 54, 34), (106, 202, 222), (81, 90, 240),
             (41, 240, 110), (235, 128, 128), (16, 128, 128)],
        ),
        (
            "bt709", 8, 1.0,
            [(219, 16, 138), (188, 154, 16), (173, 42, 26), (78, 214, 230), (63, 102, 240),
             (32, 240, 118), (235, 128, 128), (16, 128, 128)],
        ),
        (  # SMPTE RP 219
            "bt709", 10, 0.75,
            [(674, 176, 543), (581, 589, 176), (534, 253, 207), (251, 771, 817), (204, 435, 848),
             (111, 848, 481), (721, 512, 512), (64, 512, 512)],
        ),
    ],
)  # fmt: skip
def test_colour_bars_have_the_codes_of_the_standards(matrix, depth, level, codes):
    form = layout(depth, 0, 0, matrix)
    bars = torch.tensor(BARS).T.reshape(1, 3, 1, 8) * level
    planes = from_rgb(bars, form)
    assert [tuple(int(plane[0, bar]) for plane in planes) for bar in range(8)] == codes
    assert torch.allclose(to_rgb(planes, form), bars, atol=0.006 if depth == 8 else 0.0015)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", RANGES)
@pytest.mark.parametrize(
    "depth, source", [(8, "yuv420p"), (8, "yuv422p"), (10, "yuv420p10le"), (12, "yuv444p12le")]
)
def test_rgb_matches_ffmpeg(matrix, full, depth, source):
    across, down = int("444" not in source), int("420" in source)
    form = layout(depth, across, down, matrix, full, location=1)
    generator = np.random.default_rng(2)
    luma = generator.integers(form.black, form.black + form.luma_span + 1, 1024)
    reach = form.chroma_span // 3
    chroma = generator.integers(form.neutral - reach, form.neutral + reach, (1024, 2))
    planes = patches(luma, chroma, form)
    target = "gbrp" if depth == 8 else f"gbrp{depth}le"
    options = f"in_chroma_loc=left:in_color_matrix={matrix}:out_range=pc:in_range="
    theirs = swscale(planes, source, target, options + ("pc" if full else "tv"))
    # swscale takes limited range above 8 bits to a white of 1020 for 10 bits, and 4080 for 12.
    white = form.highest if full else 255 << (depth - 8)
    ours = (to_rgb(planes, form)[0] * white).clamp(0, form.highest).numpy()
    assert np.abs(ours - np.stack(theirs)).max() < 1


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", RANGES)
def test_planes_match_ffmpeg(matrix, full):
    generator = np.random.default_rng(3)
    squares = generator.integers(0, 256, (3, 24, 24)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    form = layout(matrix=matrix, full=full, location=1)
    ours = from_rgb(torch.from_numpy(squares / 255).float()[None], form)
    options = f"out_chroma_loc=left:out_color_matrix={matrix}:in_range=pc:out_range="
    green_blue_red = [squares[1], squares[2], squares[0]]
    theirs = swscale(green_blue_red, "gbrp", "yuv420p", options + ("pc" if full else "tv"))
    assert worst(ours, theirs) <= 1


@pytest.mark.parametrize("location", LOCATIONS)
def test_chroma_location_matches_ffmpeg(location, data):
    rgb = photograph(data)
    form = layout(location=location)
    planes = from_rgb(rgb, form)
    levels = (rgb[0] * 255).round().byte().numpy()
    options = "{}_chroma_loc={}:{}_color_matrix=bt709:in_range={}:out_range={}"
    name = LOCATIONS[location]
    theirs = swscale(
        [levels[1], levels[2], levels[0]],
        "gbrp", "yuv420p", options.format("out", name, "out", "pc", "tv"),
    )  # fmt: skip
    assert worst(planes, theirs) <= 1
    back = swscale(planes, "yuv420p", "gbrp", options.format("in", name, "in", "tv", "pc"))
    ours = (to_rgb(planes, form)[0].clamp(0, 1) * 255).numpy()
    inside = np.s_[:, 4:-4, 4:-4]  # swscale treats borders differently
    assert np.abs(ours - np.stack(back))[inside].max() < 1


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("down", [0, 1])
@pytest.mark.parametrize("size", [(40, 48), (41, 51)])
def test_a_chroma_ramp_is_sampled_at_its_location_and_back(location, down, size):
    form = layout(16, down=down, location=location, matrix="bt2020")
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)

    def ramp(row, column):
        return 30000 + 90 * row + 50 * column

    whole = layout(16, 0, 0, "bt2020")
    planes = [np.full(size, 30000.0), ramp(rows, columns), ramp(columns, rows)]
    rgb = to_rgb([plane.astype(np.uint16) for plane in planes], whole)
    small = from_rgb(rgb, form)
    across_place, down_place = PLACES[location]
    shape = (-(-size[0] // (1 + down)), -(-size[1] // 2))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    y, x = y * (1 + down) + down_place * down, x * 2 + across_place
    for plane, expected in zip(small[1:], (ramp(y, x), ramp(x, y)), strict=True):
        assert plane.shape == shape
        assert np.abs(plane - expected)[4:-4, 4:-4].max() <= 1
    again = from_rgb(to_rgb(small, form), whole)
    for plane, expected in zip(again[1:], planes[1:], strict=True):
        assert np.abs(plane - expected)[12:-12, 12:-12].max() <= 2


def test_chroma_is_antialiased_when_it_is_reduced():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[:, 0, :, ::2] = 1
    for location in (1, 2):
        planes = from_rgb(stripes, layout(location=location, full=True))
        flat = from_rgb(
            torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 64, 64),
            layout(location=location, full=True),
        )
        for plane, expected in zip(planes[1:], flat[1:], strict=True):
            assert np.abs(plane.astype(int) - expected)[:, 4:-4].max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (5, 7), (37, 41)])
@pytest.mark.parametrize("across, down", [*SUBSAMPLINGS, (2, 0), (2, 2)])
def test_odd_sizes_have_chroma_for_the_last_pixels(size, across, down):
    form = layout(10, across, down)
    rgb = torch.tensor([0.2, 0.9, 0.4]).view(1, 3, 1, 1).expand(1, 3, *size)
    planes = from_rgb(rgb, form)
    small = (-(-size[0] // 2**down), -(-size[1] // 2**across))
    assert [plane.shape for plane in planes] == [size, small, small]
    assert torch.allclose(to_rgb(planes, form), rgb, atol=0.002)


@pytest.mark.parametrize("full", RANGES)
def test_photographs_keep_their_luma_without_a_colour_cast(data, full):
    form = layout(full=full)
    planes = from_rgb(photograph(data), form)
    rgb = to_rgb(planes, form)
    same = from_rgb(rgb, form)
    assert worst(same[:1], planes[:1]) == 0
    large = from_rgb(upscaled(rgb), form)
    error = np.abs(large[0].astype(int) - planes[0].repeat(2, 0).repeat(2, 1))
    assert error.mean() < 0.02
    assert error.max() <= 3
    for chroma, result in zip(planes[1:], same[1:], strict=True):
        assert np.abs(result.astype(int) - chroma).mean() < 1
    for plane, result in zip(planes, large, strict=True):
        assert abs(result.mean() - plane.mean()) < 0.05


def test_nothing_is_clipped_between_black_and_white():
    for full, depth, matrix in itertools.product(RANGES, (8, 10, 12, 16), MATRICES):
        form = layout(depth, 0, 0, matrix, full)
        white = form.black + form.luma_span
        luma = np.array([[form.black, white]], sample_type(depth))
        neutral = np.full((1, 2), form.neutral, sample_type(depth))
        assert clipped_part(to_rgb([luma, neutral, neutral], form)) is None


@pytest.mark.parametrize("size", [(14, 9), (28, 18), (56, 27), (7, 36), (20, 31)])
def test_the_clipped_part_is_interpolated_bilinearly(size):
    generator = torch.Generator().manual_seed(1)
    upscaled = torch.rand((1, 3, *size), generator=generator)
    clipped = torch.rand((1, 3, 7, 9), generator=generator) - 0.5
    expected = upscaled + torch.nn.functional.interpolate(clipped, size, mode="bilinear")
    assert torch.allclose(restore_clipped(upscaled, clipped), expected, atol=3e-7)


def test_the_clipped_part_is_measured_and_restored():
    form = grey()
    plane = np.array([[0, 16, 126, 235, 254]], np.uint8).repeat(4, 0)
    rgb = to_rgb([plane], form)
    clipped = clipped_part(rgb)
    assert clipped is not None
    assert torch.allclose(clipped[0, 0, 0], torch.tensor([-16, 0, 0, 0, 19]) / 219)
    assert torch.equal(restore_clipped(rgb.clamp(0, 1), clipped), rgb)


def test_an_upscaled_frame_keeps_values_above_white():
    model = Model("nearest", nn.UpsamplingNearest2d(scale_factor=2), 2, 3, False, "nearest")
    upscaler = Upscaler(model, device="cpu")
    form = layout(10)
    planes = patches(
        [0, 64, 500, 940, 1019], [(512, 512), (64, 960), (900, 300), (5, 9), (1, 1)], form
    )
    rgb = to_rgb(planes, form)
    pixels = upscaler.upscale(rgb[0].permute(1, 2, 0).numpy())
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    large = from_rgb(
        restore_clipped(torch.from_numpy(pixels).permute(2, 0, 1)[None], clipped_part(rgb)), form
    )
    assert errors_in_squares(large, planes, form) <= 1


def test_results_do_not_depend_on_memory_format_and_inputs_are_not_modified():
    generator = np.random.default_rng(4)
    form = layout(10)
    planes = [
        generator.integers(0, 1024, shape).astype(np.uint16)
        for shape in ((31, 45), (16, 23), (16, 23))
    ]
    kept = [plane.copy() for plane in planes]
    rgb = to_rgb(planes, form)
    assert worst(planes, kept) == 0
    before = rgb.clone()
    woven = rgb.contiguous(memory_format=torch.channels_last)
    assert worst(from_rgb(rgb, form), from_rgb(woven, form)) == 0
    assert torch.equal(rgb, before)
    tensors = [torch.from_numpy(plane) for plane in planes]
    assert torch.equal(to_rgb(tensors, form), rgb)


@pytest.mark.parametrize("outside", [False, True])
def test_on_a_gpu_the_host_does_not_wait_for_the_clipped_part(outside, monkeypatch):
    """The frame is the same as with the answer of the CPU, which has no clipped part if inside."""
    rgb, large = torch.rand(1, 3, 6, 8), torch.rand(1, 3, 12, 16)
    if outside:
        rgb[0, 1, 2, 3] = 1.2
    expected = restore_clipped(large.clone(), clipped_part(rgb))
    monkeypatch.setattr(torch.Tensor, "device", property(lambda _: torch.device("cuda")))
    with Waits() as waits:
        clipped = clipped_part(rgb)
    monkeypatch.undo()
    assert waits.count == 0
    assert clipped is not None and bool(clipped.any()) == outside
    assert torch.equal(restore_clipped(large.clone(), clipped), expected)


class Waits(TorchDispatchMode):
    """Counts the values that the host reads from tensors."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ == "_local_scalar_dense"
        return func(*args, **(kwargs or {}))
