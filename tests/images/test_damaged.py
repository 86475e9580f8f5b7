"""Files without their last bytes, and damaged files that are read as far as possible."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import DamagedImageError
from upscale.images import Image, encode_file, read_file, read_image

NO_END = ("its end marker is missing",)
PIXELS = np.random.default_rng(1).normal(128, 30, (15, 20, 3)).clip(0, 255).astype(np.uint8)
PHOTO = PILImage.fromarray(PIXELS).resize((160, 120), PILImage.Resampling.BICUBIC)


def written(format: str, image: PILImage.Image = PHOTO, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


JPEGS = [
    {"quality": 90},
    {"quality": 90, "progressive": True},
    {"quality": 30, "restart_marker_blocks": 5},
    {"quality": 80, "subsampling": 2},
]


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("cut", [1, 2])
def test_jpeg_without_its_end_marker_is_whole(options, cut):
    data = written("JPEG", **options)
    result = read_image(data[:-cut])
    assert result.origin.notes == NO_END and result.origin.damage == ()
    assert np.array_equal(result.pixels, read_image(data).pixels)


@pytest.mark.parametrize("options", JPEGS)
def test_jpeg_without_pixels_is_cut_off(options):
    data = written("JPEG", **options)
    for cut in (3, 4, 6, 10, 50, len(data) // 3):
        with pytest.raises(DamagedImageError, match="is cut off"):
            read_file(data[:-cut])


def test_progressive_jpeg_without_its_last_scan_is_cut_off():
    """All rows are there; only details are missing."""
    data = written("JPEG", progressive=True, quality=90)
    last = data.rindex(b"\xff\xda")
    # The tables of the last scan precede it.
    last = data.rindex(b"\xff\xc4", 0, last)
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(data[:last])
    result = read_file(data[:last], keep_damaged=True)
    assert result.origin.damage == ("some details are missing",)


def test_case_of_a_jpeg_without_its_end(data):
    path = data / "images/cases/jpg-noeoi.jpg"
    with PILImage.open(io.BytesIO(path.read_bytes() + b"\xff\xd9")) as image:
        assert np.array_equal(read_image(path).pixels, np.asarray(image))


@pytest.mark.parametrize("name", ["truncated_jpeg.jpg", "truncated_end_chunk.png"])
def test_real_files_with_all_pixels_are_read(data, name):
    assert read_image(data / "images/pillow" / name).origin.notes == NO_END


@pytest.mark.parametrize("format", ["PNG", "GIF"])
@pytest.mark.parametrize("frames", [1, 3])
def test_png_and_gif_without_their_end_are_whole(format, frames):
    more = [PHOTO.rotate(90 * number) for number in range(1, frames)]
    data = written(format, PHOTO.quantize(), save_all=frames > 1,
                   append_images=[image.quantize() for image in more], duration=100)  # fmt: skip
    cut = 12 if format == "PNG" else 1
    whole, result = read_file(data), read_file(data[:-cut])
    if frames == 1:
        assert result.origin.notes == NO_END
        assert np.array_equal(result.pixels, whole.pixels)
        return
    both = list(zip(whole.frames(), result.frames(), strict=True))
    assert len(both) == frames
    assert all(np.array_equal(one.image.pixels, two.image.pixels) for one, two in both)
    assert both[0][1].image.origin.notes == NO_END
    with pytest.raises(DamagedImageError, match="is cut off"):
        list(read_file(data[: -cut - 1]).frames())


@pytest.mark.parametrize("options", JPEGS[:1] + JPEGS[2:])
def test_rows_of_a_cut_jpeg_are_kept(options):
    data = written("JPEG", **options)
    whole, part = read_image(data), read_file(data[: len(data) // 2], keep_damaged=True)
    (damage,) = part.origin.damage
    kept = 120 - int(damage.split()[2])
    assert damage == f"the last {120 - kept} of 120 rows are missing" and 20 < kept < 80
    assert np.array_equal(part.pixels[:kept], whole.pixels[:kept])
    assert not np.array_equal(part.pixels[kept], whole.pixels[kept])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_a_cut_png_are_kept(noise, dtype, alpha, channels):
    image = noise(dtype, channels, alpha)
    data = encode_file(image, "png")
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(data[: len(data) // 2])
    part = read_file(data[: len(data) // 2], keep_damaged=True)
    (damage,) = part.origin.damage
    kept = 37 - int(damage.split()[2])
    assert damage == f"the last {37 - kept} of 37 rows are missing" and 10 < kept < 25
    assert np.array_equal(part.samples()[:kept], image.samples()[:kept])
    assert not part.samples()[kept:].any()


def test_interlaced_png_is_kept_in_part(data):
    content = (data / "images/image-png/basi6a16.png").read_bytes()
    result = read_file(content[: len(content) // 2], keep_damaged=True)
    assert result.origin.damage == ("some details are missing",)
    assert np.array_equal(result.pixels[::8, ::8], read_image(content).pixels[::8, ::8])


def test_png_is_kept_up_to_damaged_data():
    rows = np.random.default_rng(3).integers(0, 256, (40, 50)).astype(np.uint8)
    stored = np.hstack((np.zeros((40, 1), np.uint8), rows)).tobytes()
    # Stored blocks of ten rows; the third has a wrong length.
    blocks = [
        struct.pack("<BHH", at == 30, 510, 65535 - 510) + stored[at * 51 : (at + 10) * 51]
        for at in range(0, 40, 10)
    ]
    blocks[2] = blocks[2][:1] + b"\xff" + blocks[2][2:]
    compressed = b"\x78\x01" + b"".join(blocks) + zlib.adler32(stored).to_bytes(4, "big")

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        )

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50, 40, 8, 0, 0, 0, 0))
    data += chunk(b"IDAT", compressed) + chunk(b"IEND", b"")
    result = read_file(data, keep_damaged=True)
    assert result.origin.damage == ("the last 20 of 40 rows are missing",)
    assert np.array_equal(result.pixels[:20, :, 0], rows[:20])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_frames_before_the_damage_are_kept(format):
    more = [PHOTO.rotate(90 * number).quantize() for number in range(1, 4)]
    data = written(format, PHOTO.quantize(), save_all=True, append_images=more, duration=100)
    whole = list(read_file(data).frames())
    part = list(read_file(data[:-2000], keep_damaged=True).frames())
    assert len(part) == 3
    for one, two in zip(whole, part, strict=False):
        assert np.array_equal(one.image.pixels, two.image.pixels) and one.seconds == two.seconds
    missing = [clause for frame in part for clause in frame.image.origin.damage]
    assert missing == [
        "frame 4 of 4 is missing"
        if format == "PNG"
        else "everything after its first 3 frames is missing"
    ]


def test_undamaged_files_are_read_alike(data):
    for name in ("hopper_gray.jpg", "1_trns.png", "multipage.tiff", "delay.png"):
        path = data / "images/pillow" / name
        strict, part = read_file(path), read_file(path, keep_damaged=True)
        if isinstance(strict, Image):
            assert np.array_equal(strict.pixels, part.pixels) and part.origin == strict.origin
        else:
            pairs = list(zip(strict.frames(), part.frames(), strict=True))
            assert len(pairs) == strict.count
            for one, two in pairs:
                assert np.array_equal(one.image.pixels, two.image.pixels)
                assert two.image.origin == one.image.origin and two.seconds == one.seconds


def test_nothing_to_keep_is_an_error():
    for data in (b"\xff\xd8\xff\xe0", written("JPEG")[:700], written("PNG")[:60]):
        with pytest.raises(DamagedImageError):
            read_file(data, keep_damaged=True)
