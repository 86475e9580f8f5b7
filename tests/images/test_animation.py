"""Animations read and written, compared with ImageMagick, OpenCV, Pillow and ExifTool."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import struct
import subprocess
import weakref
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.errors import ImageError, OutputError
from upscale.images import (
    Encoding,
    Frame,
    Image,
    ImageSequence,
    Metadata,
    encode_file,
    read_file,
    read_image,
    read_size,
    write_file,
)
from upscale.images.codecs import gif, png
from upscale.images.codecs.png_chunks import chunk
from upscale.images.write import encode_to

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = {"png": Encoding(), "gif": Encoding(), "webp": Encoding(lossless=True)}
GIFS = [
    "image-rs/any-disposal.gif",
    "image-rs/large-gif-anim-combine.gif",
    "image-rs/large-gif-anim-full-frame-replace.gif",
    "image-rs/mixed-disposal.gif",
    "pillow/decompression_bomb_extents.gif",
    "pillow/dispose_bgnd_transparency.gif",
    "pillow/dispose_prev_first_frame.gif",
    "pillow/no_palette_with_transparency_after_rgb.gif",
    "sharp/rotating-squares.gif",
    "wuffs/gifplayer-muybridge.gif",
    "wuffs/muybridge.gif",
]
WEBPS = [
    "image-rs/advertises_rgba_but_frames_are_rgb.webp",
    "image-rs/anim.webp",
    "generated/tall.webp",
    "generated/animated-loop-3.webp",
]


def tool(name, *arguments, data=None):
    """The output of a program."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, *arguments], input=data, capture_output=True, check=True)
    return done.stdout


def magick_frames(data, shape):
    """Frames of a GIF as ImageMagick shows them, RGBA, and their times in milliseconds."""
    times = tool("identify", "-format", "%T ", "gif:-", data=data).split()
    raw = tool("convert", "gif:-", "-coalesce", "-depth", "8", "rgba:-", data=data)
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape, 4), [10 * int(time) for time in times]


def opencv_frames(data):
    """Frames of an APNG or WebP as OpenCV shows them, RGBA, and their times in milliseconds."""
    done, result = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    assert done
    frames = np.stack(result.frames)
    if frames.shape[3] == 3:
        frames = np.concatenate((frames, np.full_like(frames[..., :1], 255)), 3)
    return frames[..., [2, 1, 0, 3]], list(result.durations)


def pillow_frames(data):
    """Frames as Pillow shows them, RGBA, and their times in milliseconds."""
    with PILImage.open(io.BytesIO(data)) as pil_image:
        result, times = [], []
        for number in range(getattr(pil_image, "default_image", 0), pil_image.n_frames):
            pil_image.seek(number)
            result.append(np.asarray(pil_image.convert("RGBA")))
            times.append(pil_image.info["duration"])
    return np.stack(result), times


def rgba(image):
    """Samples with alpha; transparent ones are black."""
    samples = image.samples()
    if samples.shape[2] % 2:
        samples = np.dstack((samples, np.full(samples.shape[:2], 255, np.uint8)))
    return visible(samples)


def visible(samples):
    return np.where(samples[..., 3:] > 0, samples, 0)


def opened(source):
    result = read_file(source)
    assert isinstance(result, ImageSequence) and result.animated
    frames = list(result.frames())
    assert len(frames) == result.count
    return result, frames


def animation(images, seconds=None, plays=0):
    times = seconds or [Fraction(1, 10)] * len(images)
    frames = [Frame(*pair) for pair in zip(images, times, strict=True)]
    return ImageSequence(lambda: iter(frames), len(frames), plays, True, "png")


def plain(colour, size=(8, 6), alpha=None):
    """One colour; size is (width, height)."""
    pixels = np.full((size[1], size[0], 3), colour, np.uint8)
    return Image(pixels, None if alpha is None else np.full(pixels.shape[:2], alpha, np.uint8))


def moving(count=5, alpha=False, size=(24, 18)):
    """A square that moves over few colours, as a GIF can hold; with alpha it leaves holes."""
    images = []
    for step in range(count):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[..., 1] = np.arange(size[0]) * 4
        pixels[2 + step : 7 + step, 3 * step : 3 * step + 5] = (250, 20 * step, 9)
        plane = None
        if alpha:
            plane = np.zeros(pixels.shape[:2], np.uint8)
            plane[step : 10 + step, 2 * step : 2 * step + 9] = 255
            pixels[plane == 0] = 0
        images.append(Image(pixels, plane))
    return images


@pytest.mark.parametrize("name", GIFS)
def test_gif_frames_equal_those_of_imagemagick(data, name):
    content = (data / "images" / name).read_bytes()
    result, frames = opened(content)
    image = frames[0].image
    seen, times = magick_frames(content, (image.height, image.width))
    assert len(seen) == result.count
    for frame, expected in zip(frames, seen, strict=True):
        assert np.array_equal(rgba(frame.image), visible(expected))
    assert [frame.seconds for frame in frames] == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize("name", ["border_touching_layers", "issue_1455_undersized"])
def test_canvas_without_a_gif_frame_is_transparent(data, name):
    _, frames = opened(data / f"images/image-rs/{name}.gif")
    first = frames[0].image
    assert first.pixels.shape == (100, 100, 3)
    covered = {"border_touching_layers": np.s_[25:75, :], "issue_1455_undersized": np.s_[:50, :50]}
    inside = np.zeros((100, 100), bool)
    inside[covered[name]] = True
    assert np.array_equal(first.alpha > 0, inside)


def test_first_gif_frame_beyond_the_canvas_extends_it(data):
    path = data / "images/image-rs/oob.gif"
    image = read_file(path)
    assert read_size(path) == (40, 40)
    assert image.pixels.shape == (40, 40, 3)
    assert image.alpha[32:].any() and image.alpha[:, 32:].any()
    assert not image.alpha[:24].any() and not image.alpha[:, :24].any()


def test_later_gif_frame_beyond_the_canvas_is_clipped(noise):
    frames = [
        gif.file_start(8, 6, 1, None),
        gif.image_block(plain(10), 5, disposal=1),
        gif.image_block(plain(200, (90, 70)), 5, disposal=1, position=(4, 3)),
        gif.TRAILER,
    ]
    _, (first, second) = opened(b"".join(frames))
    assert (first.image.pixels == 10).all()
    expected = np.full((6, 8, 3), 10)
    expected[3:, 4:] = 200
    assert np.array_equal(second.image.pixels, expected)


def test_gif_frame_without_disposal_is_kept():
    # Pillow keeps the disposal of the frame before.
    places = [((0, 0), 2), ((2, 2), 0), ((4, 4), 0)]
    blocks = [
        gif.image_block(plain(50 * number + 50, (2, 2)), 5, disposal=disposal, position=place)
        for number, (place, disposal) in enumerate(places)
    ]
    _, frames = opened(gif.file_start(8, 6, 1, None) + b"".join(blocks) + gif.TRAILER)
    shown = [np.unique(frame.image.pixels[frame.image.alpha > 0]) for frame in frames]
    assert [list(colours) for colours in shown] == [[50], [100], [100, 150]]


@pytest.mark.parametrize("repeats", [None, 0, 1, 7, 65535])
def test_gif_to_gif_keeps_the_loop_count(repeats):
    extension = b"!\xff\x0bNETSCAPE2.0\x03\x01"
    stored = b"" if repeats is None else extension + struct.pack("<HB", repeats, 0)
    blocks = [gif.image_block(image, 7, disposal=1) for image in moving(2)]
    data = gif.file_start(24, 18, 1, None) + stored + b"".join(blocks) + gif.TRAILER
    result, _ = opened(data)
    # A count of repeats: what browsers show is one more.
    assert result.plays == (1 if repeats is None else repeats and repeats + 1)
    again = encode_file(result, "gif")
    assert stored in again and (extension in again) == (repeats is not None)


def test_cut_off_gif_is_rejected_before_any_frame(data):
    content = (data / "images/wuffs/muybridge.gif").read_bytes()
    assert read_file(content).count == 15
    for length in range(1, len(content), 97):
        with pytest.raises(ImageError, match=r"cut off|not an image"):
            read_file(content[:length])
    for name in ("generated/truncated", "wuffs/hippopotamus.interlaced.truncated"):
        with pytest.raises(ImageError, match="cut off"):
            read_file(data / f"images/{name}.gif")


def test_read_size_of_a_gif_reads_its_first_bytes(data):
    content = (data / "images/wuffs/gifplayer-muybridge.gif").read_bytes()
    assert read_size(content[:1000]) == (472, 298)


def test_damaged_gif_frames_are_rejected_or_have_the_right_size(data):
    content = (data / "images/wuffs/muybridge.gif").read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(120):
        broken = bytearray(content)
        broken[rng.integers(13, len(content))] ^= 1 << rng.integers(8)
        try:
            result = read_file(bytes(broken))
            frames = result.frames() if isinstance(result, ImageSequence) else [Frame(result)]
            assert len({frame.image.pixels.shape for frame in frames}) == 1
        except ImageError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < 120


def test_gif_frame_of_four_gigapixels_is_rejected_before_decoding():
    head = gif.file_start(8, 6, 1, None) + gif.image_block(plain(10), 5)
    block = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00"
    result = read_file(head + block + gif.TRAILER)
    with pytest.raises(ImageError, match="damaged"):
        list(result.frames())


@pytest.mark.parametrize("name", [*WEBPS, "generated/animated.png"])
def test_webp_and_apng_frames_equal_those_of_opencv(data, name):
    content = (data / "images" / name).read_bytes()
    result, frames = opened(content)
    seen, times = opencv_frames(content)
    assert len(seen) == result.count
    for frame, expected in zip(frames, seen, strict=True):
        assert np.array_equal(rgba(frame.image), visible(expected))
    assert [round(frame.seconds * 1000) for frame in frames] == times
    if "loop-3" in name:
        assert result.plays == 3


def test_opaque_apng_frames_equal_those_of_pillow(data):
    content = (data / "images/pillow/delay.png").read_bytes()
    _, frames = opened(content)
    seen, times = pillow_frames(content)
    assert np.array_equal([rgba(frame.image) for frame in frames], visible(seen))
    assert [float(frame.seconds * 1000) for frame in frames] == pytest.approx(times)


def apng(canvas, frames, plays=0, default=None):
    """An animated PNG of frames: (image, left, top, (delay, of), disposal, blend)."""
    number, parts = 0, [b"\x89PNG\r\n\x1a\n"]
    start = bytes(png.encode_plain(default or frames[0][0])[16:29])
    parts.append(chunk(b"IHDR", struct.pack(">II", *canvas) + start[8:]))
    parts.append(chunk(b"acTL", struct.pack(">II", len(frames), plays)))
    if default is not None:
        parts.append(chunk(b"IDAT", packed(default)))
    for index, (image, left, top, time, disposal, blend) in enumerate(frames):
        size = image.width, image.height
        control = struct.pack(">IIIIIHHBB", number, *size, left, top, *time, disposal, blend)
        parts.append(chunk(b"fcTL", control))
        number += 1
        if index == 0 and default is None:
            parts.append(chunk(b"IDAT", packed(image)))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", number) + packed(image)))
            number += 1
    return b"".join((*parts, chunk(b"IEND", b"")))


def packed(image):
    data, place, result = bytes(png.encode_plain(image)), png.HEADER_END, b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        result += data[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    return result


def test_half_transparent_apng_colours_are_blended_by_the_standard():
    red, blue = plain((255, 0, 0), alpha=128), plain((0, 0, 255), alpha=128)
    data = apng((8, 6), [(red, 0, 0, (1, 5), 0, 0), (blue, 0, 0, (1, 5), 0, 1)])
    _, (_, second) = opened(data)
    alpha = 128 / 255
    total = alpha + alpha * (1 - alpha)
    share = alpha / total
    assert (second.image.alpha == round(total * 255)).all()
    assert (second.image.pixels == (round(255 * (1 - share)), 0, round(255 * share))).all()


@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_apng_disposals(disposal):
    under, patch, last = plain(10, alpha=255), plain(99, (3, 2), 255), plain(50, (1, 1), 255)
    data = apng(
        (8, 6),
        [
            (under, 0, 0, (1, 5), 0, 0),
            (patch, 2, 1, (1, 5), disposal, 0),
            (last, 0, 0, (1, 5), 0, 1),
        ],
    )
    _, frames = opened(data)
    expected = np.full((6, 8, 4), (10, 10, 10, 255))
    expected[1:3, 2:5] = {0: (99, 99, 99, 255), 1: (0, 0, 0, 0), 2: (10, 10, 10, 255)}[disposal]
    expected[0, 0] = (50, 50, 50, 255)
    assert np.array_equal(rgba(frames[2].image), expected)
    assert (frames[1].image.pixels[1:3, 2:5] == 99).all()


def test_default_image_outside_the_animation_is_left_out():
    frames = [(plain(20), 0, 0, (1, 4), 0, 0), (plain(60), 0, 0, (3, 0), 0, 0)]
    result, (first, second) = opened(apng((8, 6), frames, 5, plain(200)))
    assert result.plays == 5
    assert (first.image.pixels == 20).all() and (second.image.pixels == 60).all()
    # A denominator of 0 stands for hundredths.
    assert (first.seconds, second.seconds) == (Fraction(1, 4), Fraction(3, 100))


def test_apng_keeps_16_bits(noise):
    images = [noise("uint16", 3, True), noise("uint16", 3, True)]
    images[1].pixels[3:9, 5:9] = 7
    _, frames = opened(encode_file(animation(images), "png"))
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(frame.image.samples(), image.samples())


@pytest.mark.parametrize(("lost", "kept"), [(b"fcTL", 2), (b"fdAT", 2)])
def test_apng_frames_before_a_gap_in_their_numbers_are_kept(lost, kept):
    frames = [(plain(20 * n), 0, 0, (1, 4), 0, 0) for n in range(1, 5)]
    data = bytearray(apng((8, 6), frames))
    start = 8
    for _ in range(3 if lost == b"fcTL" else 2):
        start = data.index(lost, start + 4)
    length = int.from_bytes(data[start - 4 : start], "big")
    number = int.from_bytes(data[start + 4 : start + 8], "big")
    body = struct.pack(">I", number + 1) + data[start + 8 : start + 4 + length]
    data[start - 4 : start + 8 + length] = chunk(lost, body)
    with pytest.raises(ImageError, match="is an animation with damaged frames; use an undamaged"):
        opened(bytes(data))
    part = list(read_file(bytes(data), keep_damaged=True).frames())
    assert [int(frame.image.pixels[0, 0, 0]) for frame in part] == [
        20 * n for n in range(1, kept + 1)
    ]
    missing = [clause for frame in part for clause in frame.image.origin.damage]
    assert missing == ["frames 3 to 4 are missing"]


def test_frame_of_a_gif_outside_the_canvas_is_clipped():
    palette = bytes((255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9))
    head = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x81, 0, 0) + palette

    def patch(left, top, colour):
        codes = [4, *([colour, 4] * 99), colour, 5]  # a clear code before each index
        bits = sum(code << 3 * place for place, code in enumerate(codes))
        packed = bits.to_bytes(-(-3 * len(codes) // 8), "little")
        return (b"!\xf9\4\4\5\0\0\0," + struct.pack("<HHHHBB", left, top, 10, 10, 0, 2)
                + bytes((len(packed),)) + packed + b"\0")  # fmt: skip

    _, (first, second, third) = opened(
        head + patch(0, 0, 0) + patch(6, 7, 1) + patch(20, 30, 2) + b";"
    )
    assert (first.image.pixels == (255, 0, 0)).all()
    expected = np.tile(np.array([255, 0, 0], np.uint8), (10, 10, 1))
    expected[7:, 6:] = 0, 255, 0
    assert np.array_equal(second.image.pixels, expected)
    assert np.array_equal(third.image.pixels, expected)


def test_first_of_two_joined_gifs_is_read():
    one, two = (encode_file(plain(level), "gif") for level in (20, 60))
    result = read_image(one[:-1] + b"\0" + two)
    assert (result.pixels == 20).all()
    assert result.origin.notes == ("another GIF in it was left out",)
    with pytest.raises(ImageError, match="is damaged"):
        read_image(one[:-1] + b"?" + two)


@pytest.mark.parametrize("name", ["sequence_gap.png", "chunk_no_fdat.png"])
def test_incomplete_apngs_are_rejected(data, name):
    with pytest.raises(ImageError, match=r"damaged|cut off"):
        opened(data / f"images/pillow/{name}")


def test_apng_frame_beyond_the_canvas_or_with_wrong_checksum_is_rejected():
    frames = [(plain(20), 0, 0, (1, 4), 0, 0), (plain(60), 1, 0, (1, 4), 0, 0)]
    with pytest.raises(ImageError, match="damaged"):
        opened(apng((8, 6), frames))
    frames[1] = (plain(60), 0, 0, (1, 4), 0, 0)
    good = bytearray(apng((8, 6), frames))
    opened(bytes(good))
    good[good.index(b"fdAT") + 12] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        opened(bytes(good))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_written_animations_are_read_by_other_programs(format, alpha):
    images = moving(alpha=alpha)
    data = encode_file(animation(images, plays=4), format, LOSSLESS[format])
    expected = [rgba(image) for image in images]
    others = [opencv_frames(data) if format != "gif" else magick_frames(data, (18, 24))]
    for seen, times in (*others, pillow_frames(data)):
        assert np.array_equal(visible(seen), expected)
        assert times == [100] * 5
    with PILImage.open(io.BytesIO(data)) as pil_image:
        assert pil_image.info["loop"] == (3 if format == "gif" else 4)
    result, frames = opened(data)
    assert result.plays == 4
    assert np.array_equal([rgba(frame.image) for frame in frames], expected)


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_exiftool_reports_no_warnings(format, tmp_path):
    path = tmp_path / f"moving.{format}"
    write_file(animation(moving(), plays=4), path, format=format)
    values = json.loads(tool("exiftool", "-json", "-n", "-validate", "-all", str(path)))[0]
    assert values["Validate"] == "0 0 0"
    assert (values["ImageWidth"], values["ImageHeight"]) == (24, 18)
    says = {
        "png": {"AnimationFrames": 5, "AnimationPlays": 4},
        "webp": {"AnimationLoopCount": 4, "Duration": 0.5},
        "gif": {"AnimationIterations": 3, "FrameCount": 5, "Duration": 0.5},
    }
    assert says[format].items() <= values.items()


@pytest.mark.parametrize("name", GIFS)
@pytest.mark.parametrize("format", ["gif", "png", "webp"])
def test_real_gifs_keep_pixels_durations_and_plays(data, name, format):
    result, frames = opened(data / "images" / name)
    again, written = opened(encode_file(result, format, LOSSLESS[format]))
    assert again.plays == result.plays
    for frame, other in zip(frames, written, strict=True):
        assert np.array_equal(rgba(frame.image), rgba(other.image))
        assert frame.seconds == other.seconds


@pytest.mark.parametrize(
    "name", ["generated/animated.png", "pillow/delay.png", "generated/animated-loop-3.webp"]
)
def test_png_and_webp_animations_are_kept(data, name):
    result, frames = opened(data / "images" / name)
    again, written = opened(encode_file(result, result.format, LOSSLESS[result.format]))
    assert again.plays == result.plays
    for frame, other in zip(frames, written, strict=True):
        assert np.array_equal(rgba(frame.image), rgba(other.image))
        assert frame.seconds == other.seconds


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_identical_frames_stay_separate(format):
    same = [plain(70)] * 3
    data = encode_file(animation(same, [Fraction(1, 10), Fraction(1, 5), Fraction(1)]), format)
    _, times = pillow_frames(data)
    assert times == [100, 200, 1000]
    _, frames = opened(data)
    assert [frame.seconds for frame in frames] == [Fraction(1, 10), Fraction(1, 5), 1]


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_unchanged_areas_are_not_stored_again(format, noise):
    still = noise(size=(200, 160))
    images = [still]
    for step in range(1, 20):
        pixels = still.pixels.copy()
        pixels[step : step + 3, step : step + 4] = 0
        images.append(replace(still, pixels=pixels))
    one = len(encode_file(animation(images[:1]), format))
    assert len(encode_file(animation(images), format)) < 1.2 * one


@pytest.mark.parametrize("format", ["png", "webp", "gif", "avif"])
def test_few_frames_are_in_memory(format, tmp_path):
    alive, most = set(), 0

    def frames():
        nonlocal most
        for number in range(30):
            pixels = np.full((40, 50, 3), number, np.uint8)
            alive.add(number)
            weakref.finalize(pixels, alive.discard, number)
            most = max(most, len(alive))
            yield Frame(Image(pixels), Fraction(1, 10))
            del pixels

    target = tmp_path / f"long.{format}"
    write_file(ImageSequence(frames, 30, 0, True, "png"), target, format=format)
    assert read_file(target).count == 30
    assert most <= 4


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_frames_are_written_while_later_ones_are_computed(format, noise):
    target, sizes = io.BytesIO(), []

    def frames():
        for _ in range(6):
            sizes.append(len(target.getvalue()))
            yield Frame(noise(), Fraction(1, 10))

    sequence = ImageSequence(frames, 6, 0, True, "png")
    encode_to(sequence, target, format, Encoding())
    assert sizes[0] < 20 < sizes[3]


def test_durations_do_not_drift():
    seconds = [Fraction(1, 30)] * 90
    images = [plain(number % 2) for number in range(90)]
    for format, step in (("webp", 1000), ("gif", 100)):
        _, frames = opened(encode_file(animation(images, seconds), format))
        assert sum(frame.seconds for frame in frames) == 3
        assert {round(frame.seconds * step) for frame in frames} == {step // 30, step // 30 + 1}
    _, frames = opened(encode_file(animation(images, seconds), "png"))
    assert [frame.seconds for frame in frames] == seconds


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_unusual_durations_are_kept_or_rounded(format):
    # None, some that viewers would stretch, one that no field of the file can hold.
    seconds = [Fraction(0), Fraction(1, 100), Fraction(1, 60), Fraction(10**6), Fraction(1, 10)]
    _, frames = opened(encode_file(animation([plain(5)] * 5, seconds), format))
    values = [frame.seconds for frame in frames]
    assert values[0] == 0 and values[1] == Fraction(1, 100)
    assert values[2] >= Fraction(1, 100)
    assert (
        values[3]
        == {"png": 65535, "webp": Fraction(2**24 - 1, 1000), "gif": Fraction(65535, 100)}[format]
    )
    assert values[4] == Fraction(1, 10)


def test_gif_durations_are_not_rounded_to_those_browsers_replace():
    seconds = [Fraction(1, 60)] * 10
    _, frames = opened(encode_file(animation(moving(10, size=(40, 30)), seconds), "gif"))
    assert {frame.seconds for frame in frames} == {Fraction(2, 100)}


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_frames_that_differ_in_size_or_depth_are_rejected(format):
    for other in (plain(9, (8, 7)), plain(9, alpha=255)):
        with pytest.raises(OutputError, match="differ"):
            encode_file(animation([plain(9), other]), format)


@pytest.mark.parametrize("format", ["png", "webp", "gif"])
def test_metadata_is_written_once(format, exif_block):
    metadata = Metadata(exif=exif_block(1), xmp=b"<x:xmpmeta/>", comment="a remark")
    images = [replace(image, metadata=metadata) for image in moving(3)]
    data = encode_file(animation(images), format)
    _, frames = opened(data)
    first = frames[0].image.metadata
    if format == "gif":
        assert first.comment == "a remark" and data.count(b"a remark") == 1
    else:
        assert first.exif == metadata.exif and first.xmp == metadata.xmp
        assert data.count(b"<x:xmpmeta/>") == 1
    assert frames[1].image.metadata == Metadata()


def test_lossy_webp_stays_close_and_keeps_alpha_exact():
    slope = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None], (48, 64, 3)) * np.uint8(3)
    images = [replace(image, pixels=slope + 9) for image in moving(alpha=True, size=(64, 48))]
    data = encode_file(animation(images), "webp", Encoding(quality=90))
    for expected, frame in zip(images, opencv_frames(data)[0], strict=True):
        assert np.array_equal(frame[..., 3], expected.alpha)
        error = np.abs(frame[..., :3].astype(int) - expected.pixels)[expected.alpha > 0]
        assert error.mean() < 2
    assert b"VP8L" not in data


@pytest.mark.parametrize(
    ("name", "plays"), [("generated/animated.avifs", 0), ("libavif/colors-animated-8bpc.avif", 1)]
)
def test_avif_frames_equal_those_of_pillow(data, name, plays):
    content = (data / "images" / name).read_bytes()
    result, frames = opened(content)
    seen, times = pillow_frames(content)
    assert np.array_equal([rgba(frame.image) for frame in frames], visible(seen))
    assert [round(frame.seconds * 1000) for frame in frames] == times
    # Pillow does not tell: the first file says nothing, the second that it has one edit.
    assert result.plays == plays


def test_avif_durations_are_exact(data):
    _, frames = opened(data / "images/libavif/colors-animated-8bpc.avif")
    assert {frame.seconds for frame in frames} == {Fraction(1, 30)}


@pytest.mark.parametrize("plays", [0, 1, 4])
@pytest.mark.parametrize("alpha", [False, True])
def test_avif_keeps_frames_durations_plays_and_metadata(alpha, plays):
    images = [plain(60 * step, (32, 24), 255 - step if alpha else None) for step in (0, 1, 1, 3)]
    metadata = Metadata(icc=ICC, xmp=b"<x:xmpmeta/>")
    images[0] = replace(images[0], metadata=metadata)
    seconds = [Fraction(1, 10), Fraction(1, 30), Fraction(1, 30), Fraction(1, 30)]
    data = encode_file(animation(images, seconds, plays), "avif")
    result, frames = opened(data)
    assert result.plays == plays
    assert [frame.seconds * 1000 for frame in frames] == [100, 33, 34, 33]
    assert frames[0].image.metadata == metadata
    seen, times = pillow_frames(data)
    assert times == [100, 33, 34, 33]
    for frame, other, image in zip(frames, seen, images, strict=True):
        assert np.abs(other[..., :3].astype(int) - image.pixels).max() <= 3
        assert np.array_equal(frame.image.samples(), other[..., : 3 + alpha])
        if alpha:
            assert np.abs(other[..., 3].astype(int) - image.alpha).max() <= 1


def test_unsupported_avif_animations_are_rejected(noise):
    for image, encoding in (
        (plain(9), Encoding(lossless=True)),
        (noise("uint16"), Encoding()),
        (replace(plain(9), metadata=Metadata(cicp=(9, 16))), Encoding()),
    ):
        with pytest.raises(OutputError, match="not supported"):
            encode_file(animation([image, image]), "avif", encoding)


def test_failing_frame_leaves_no_file(tmp_path):
    def frames():
        yield Frame(plain(9), Fraction(1, 10))
        raise ImageError("source: is damaged")

    target = tmp_path / "out.gif"
    with pytest.raises(ImageError):
        write_file(ImageSequence(frames, 2, 0, True, "gif"), target, format="gif")
    assert not list(tmp_path.iterdir())


def test_each_call_of_frames_starts_at_the_first(data):
    result = read_file(data / "images/wuffs/muybridge.gif")
    half = result.frames()
    early = [next(half), next(half)]
    whole = list(result.frames())
    for one, other in itertools.zip_longest([*early, *half], whole):
        assert np.array_equal(one.image.pixels, other.image.pixels)


def test_gif_keeps_the_colours_of_flat_areas(noise):
    pixels = noise(size=(120, 100)).pixels
    pixels[:, :60] = (255, 255, 253)
    pixels[60:, 60:90] = (7, 1, 90)
    _, frames = opened(encode_file(animation([Image(pixels), plain(1, (120, 100))]), "gif"))
    written = frames[0].image.pixels
    assert (written[:, :60] == (255, 255, 253)).all()
    assert (written[60:, 60:90] == (7, 1, 90)).all()
