"""TIFF of every combination of colours and samples, and damaged pages.

Files are written by tifffile; Pillow, OpenCV and libvips read some of them as well.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from upscale.errors import DamagedImageError, ImageError
from upscale.images import read_file, read_image

SIZE = (17, 23)
FULL = {"u1": 255, "u2": 65535, "u4": 2**32 - 1, "f4": 1, "f2": 1}


def noise(channels: int, dtype: str) -> np.ndarray:
    values = np.random.default_rng(3).random((*SIZE, channels))
    return (values * FULL[dtype]).astype(dtype)


def written(samples: np.ndarray, **options: object) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, samples, metadata=None, **options)
    return target.getvalue()


def without_tag(data: bytes, tag: int) -> bytes:
    """The file with a private number in place of that of a tag."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = file.pages[0].tags[tag]
        order = file.byteorder
    changed = bytearray(data)
    struct.pack_into(order + "H", changed, found.offset, 65000)
    return bytes(changed)


def expected(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint32:
        return (samples >> 16).astype(np.uint16)
    return samples.astype(np.float32) if samples.dtype.kind == "f" else samples


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(("photometric", "channels"), [("minisblack", 2), ("rgb", 4)])
def test_a_last_sample_that_nothing_describes_is_alpha(photometric, channels, dtype, planar):
    samples = noise(channels, dtype)
    stored = np.moveaxis(samples, 2, 0) if planar else samples
    data = written(
        stored,
        photometric=photometric,
        planarconfig="separate" if planar else "contig",
        extrasamples=["unassalpha"],
    )
    for content in (data, without_tag(data, 338)):
        assert np.array_equal(read_image(content).samples(), expected(samples))


@pytest.mark.parametrize("channels", [2, 4])
def test_further_samples_that_are_said_to_be_something_else_are_not_alpha(channels):
    samples = noise(channels, "u1")
    photometric = "rgb" if channels == 4 else "minisblack"
    data = written(
        samples, photometric=photometric, planarconfig="contig", extrasamples=["unspecified"]
    )
    result = read_image(data)
    assert result.alpha is None and np.array_equal(result.pixels, samples[..., :-1])


def test_alpha_behind_another_further_sample_is_found():
    samples = noise(5, "u1")
    data = written(samples, photometric="rgb", planarconfig="contig",
                   extrasamples=["unspecified", "unassalpha"])  # fmt: skip
    result = read_image(data)
    assert np.array_equal(result.pixels, samples[..., :3])
    assert np.array_equal(result.alpha, samples[..., 4])


def test_case_of_opencv_equals_pillow(data):
    path = data / "images/cases/tif-opencv-rgba.tif"
    with PILImage.open(path) as image:
        assert image.mode == "RGBA"
        assert np.array_equal(read_image(path).samples(), np.asarray(image))


def test_opencv_writes_alpha_without_saying_so(tmp_path):
    samples = noise(4, "u2")
    cv2.imwrite(str(tmp_path / "a.tif"), samples[..., [2, 1, 0, 3]])
    assert np.array_equal(read_image(tmp_path / "a.tif").samples(), samples)


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("alpha", [False, True])
def test_where_white_is_zero_every_type_is_inverted(dtype, alpha):
    samples = noise(1 + alpha, dtype)
    extra = ["unassalpha"] if alpha else None
    data = written(samples if alpha else samples[..., 0], photometric="miniswhite",
                   planarconfig="contig" if alpha else None, extrasamples=extra)  # fmt: skip
    result = read_image(data)
    full = 1 if dtype[0] == "f" else np.iinfo(result.pixels.dtype).max
    stored = expected(samples)
    assert np.array_equal(result.pixels[..., 0], full - stored[..., 0])
    if alpha:
        assert np.array_equal(result.alpha, stored[..., 1])


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(("channels", "photometric"), [(1, "minisblack"), (3, "rgb")])
def test_missing_meaning_of_colours_is_guessed_as_libtiff_does(channels, photometric, dtype):
    samples = noise(channels, dtype)
    data = written(samples if channels > 1 else samples[..., 0], photometric=photometric)
    assert np.array_equal(read_image(without_tag(data, 262)).pixels, expected(samples))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f2"])
@pytest.mark.parametrize("alpha", [False, True])
def test_cmyk_of_every_type_becomes_rgb_and_keeps_its_alpha(dtype, alpha):
    samples = noise(4 + alpha, dtype)
    data = written(samples, photometric="separated", planarconfig="contig",
                   extrasamples=["unassalpha"] if alpha else None)  # fmt: skip
    result = read_image(data)
    share = samples.astype(np.float64) / FULL[dtype]
    rgb = (1 - share[..., :3]) * (1 - share[..., 3:4])
    full = np.iinfo(result.pixels.dtype).max
    # Pillow's conversion of 8 bits rounds twice.
    assert np.abs(result.pixels / full - rgb).max() < (2 / 255 if dtype == "u1" else 1e-3)
    if alpha:
        assert np.abs(result.alpha / full - share[..., 4]).max() < 1e-4
    else:
        assert result.alpha is None
    assert "its colours were converted to sRGB" in result.origin.notes


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("inks", [2, 3])
def test_inks_other_than_cmyk_are_rejected(dtype, inks):
    data = bytearray(written(noise(3, dtype), photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages[0].tags[262].valueoffset, 5)
    with pytest.raises(ImageError, match="separate inks other than CMYK; convert"):
        read_file(bytes(data))
    four = written(noise(4, dtype), photometric="separated", planarconfig="contig",
                   extratags=[(332, "H", 1, 2, True), (334, "H", 1, inks, True)])  # fmt: skip
    with pytest.raises(ImageError, match="separate inks other than CMYK; convert"):
        read_file(four)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_palette_with_alpha(extra):
    table = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    samples = noise(2, "u1")
    colours = (320, "H", 768, table.ravel().tolist(), True)
    data = bytearray(written(samples, photometric="minisblack", planarconfig="contig",
                             extrasamples=[extra], extratags=[colours]))  # fmt: skip
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages[0].tags[262].valueoffset, 3)
    result = read_image(bytes(data))
    assert np.array_equal(result.alpha, samples[..., 1])
    colours = (table >> 8).T[samples[..., 0]]
    if extra == "unassalpha":
        assert np.array_equal(result.pixels, colours)
    else:
        seen = samples[..., 1] > 0
        product = np.rint(colours[seen] * (255 / samples[seen][:, 1:])).clip(0, 255)
        assert np.array_equal(result.pixels[seen], product)


def test_case_of_a_palette_with_alpha_equals_libvips(data, tmp_path):
    path = data / "images/cases/tif-palette-alpha.tif"
    result = read_image(path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        stored, table = page.asarray(), page.colormap
    assert np.array_equal(result.alpha, stored[..., 1])
    assert np.array_equal(result.pixels, (table.T >> 8)[stored[..., 0]])
    if shutil.which("convert") is None:
        return
    subprocess.run(["convert", path, "-depth", "8", tmp_path / "a.png"], check=True)
    with PILImage.open(tmp_path / "a.png") as image:
        other = np.asarray(image.convert("RGBA"))
    seen = result.alpha > 0
    assert np.abs(result.samples()[seen].astype(int) - other[seen]).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "photometric", "channels"),
    [("i1", "minisblack", 1), ("i2", "rgb", 3), ("c8", "minisblack", 1), ("f4", "ycbcr", 3),
     ("f2", "cielab", 3), ("f4", "icclab", 3), ("u2", "ycbcr", 3)],
)  # fmt: skip
def test_other_types_of_samples_have_the_right_reason(dtype, photometric, channels):
    samples = np.ones((*SIZE, channels), dtype)
    data = written(samples if channels > 1 else samples[..., 0], photometric=photometric)
    with pytest.raises(ImageError, match="a type of numbers that is not supported; convert"):
        read_file(data)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("predictor", [None, 2, 3])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_files_of_libvips_are_read_exactly(tmp_path, dtype, predictor, compression):
    if shutil.which("vips") is None:
        pytest.skip("libvips is not installed")
    if (predictor == 3) != (dtype == "f4" and predictor is not None):
        pytest.skip("there is no such predictor for this type")
    samples = noise(3, dtype)
    (tmp_path / "a.tif").write_bytes(written(samples, photometric="rgb"))
    names = {None: "none", "zlib": "deflate"}
    options = f"compression={names[compression]},tile,tile-width=16,tile-height=16"
    options += ",predictor=" + {None: "none", 2: "horizontal", 3: "float"}[predictor]
    target = tmp_path / "b.tif"
    subprocess.run(["vips", "copy", tmp_path / "a.tif", f"{target}[{options}]"], check=True)
    assert np.array_equal(read_image(target).pixels, samples)


@pytest.mark.parametrize("tile", [None, (48, 32)])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_pages_are_read(channels, tile):
    values = np.random.default_rng(3).integers(0, 256, (99, 70, channels)).astype(np.uint8)
    data = written(values, photometric="rgb", compression="webp", rowsperstrip=None if tile else 40,
                   tile=tile, compressionargs={"lossless": True},
                   extrasamples=["unassalpha"] if channels == 4 else None)  # fmt: skip
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].compression == 50001 and len(file.pages[0].dataoffsets) > 2
    result = read_image(data)
    if channels == 4:
        assert np.array_equal(result.alpha, values[..., 3])
        seen = result.alpha > 0
        assert np.array_equal(result.pixels[seen], values[seen][:, :3])
    else:
        assert np.array_equal(result.samples(), values)


def test_webp_pages_of_pillow_are_read():
    target = io.BytesIO()
    try:
        PILImage.fromarray(GRADIENT).save(target, "TIFF", compression="webp")
    except (OSError, KeyError):
        pytest.skip("the libtiff of Pillow is built without WebP")
    result = read_image(target.getvalue()).pixels
    assert np.abs(result.astype(int) - GRADIENT).mean() < 3


def test_embedded_webp_larger_than_its_page_is_rejected():
    large, small = (
        imagecodecs.webp_encode(np.zeros((side, side, 3), np.uint8), lossless=True)
        for side in (600, 60)
    )
    data = written(np.zeros((60, 60, 3), np.uint8), photometric="rgb", compression="webp",
                   compressionargs={"lossless": True})  # fmt: skip
    assert read_image(data).width == 60
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[0], page.databytecounts[0]
        sizes = page.tags[279]
    for embedded in (small, large):
        changed = bytearray(data[:start] + embedded + bytes(max(0, length - len(embedded))))
        kind = {3: "<H", 4: "<I"}[sizes.dtype]
        struct.pack_into(kind, changed, sizes.valueoffset, len(embedded))
        if embedded is small:
            assert read_image(bytes(changed)).width == 60
            continue
        with pytest.raises(DamagedImageError, match="is damaged"):
            read_file(bytes(changed))


def with_sample_format(data: bytes, number: int, tag: int = 339) -> bytes:
    """The file with another tag in place of the private one."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        order = file.byteorder
        channels = file.pages[0].samplesperpixel
        entry = file.pages[0].tags[65000]
    changed = bytearray(data)
    assert entry.count == channels
    struct.pack_into(order + "H", changed, entry.offset, tag)
    struct.pack_into(f"{order}{channels}H", changed, entry.valueoffset, *[number] * channels)
    return bytes(changed)


def spare(channels: int) -> list[tuple[object, ...]]:
    return [(65000, "H", channels, (1,) * channels if channels > 1 else 1, True)]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("tag", "number"), [(339, 4), (32996, 0)])
def test_samples_of_undefined_type_are_unsigned(
    tag, number, channels, dtype, compression, byteorder
):
    samples = noise(channels, dtype)
    plain = written(samples if channels > 1 else samples[..., 0], byteorder=byteorder,
                    photometric="rgb" if channels > 1 else "minisblack", compression=compression,
                    extratags=spare(channels))  # fmt: skip
    data = with_sample_format(plain, number, tag)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert tag in file.pages[0].tags and (tag == 339 or 339 not in file.pages[0].tags)
    assert np.array_equal(read_image(data).pixels, expected(samples))


@pytest.mark.parametrize("sample_format", [1, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_integers_of_64_bits_keep_their_upper_16(compression, byteorder, channels, sample_format):
    samples = np.random.default_rng(5).integers(0, 2**64, (*SIZE, channels), np.uint64)
    samples[0, 0], samples[0, 1] = 0, 2**64 - 1
    plain = written(samples if channels > 1 else samples[..., 0], byteorder=byteorder,
                    photometric="rgb" if channels > 1 else "minisblack", compression=compression,
                    extratags=spare(channels))  # fmt: skip
    data = with_sample_format(plain, sample_format)
    assert np.array_equal(read_image(data).pixels, (samples >> np.uint64(48)).astype(np.uint16))


def one_strip(
    body: bytes, channels: int, bits: int, order: str, *, sizes: int = 0, compression: int = 1
) -> bytes:
    """A file of one strip by the description of TIFF 6.0, with one number of bits for all."""
    values = {256: SIZE[1], 257: SIZE[0], 258: bits, 259: compression,
              262: 2 if channels > 1 else 1, 273: 0, 277: channels, 278: SIZE[0],
              279: sizes or len(body)}  # fmt: skip
    values[273] = 8 + 2 + 12 * len(values) + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    head += struct.pack(order + "H", len(values))
    for tag, value in values.items():
        if tag in (273, 279):
            head += struct.pack(order + "HHII", tag, 4, 1, value)
        else:
            head += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
    return head + bytes(4) + body


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_integers_of_24_bits_keep_their_upper_16(compression, order, channels):
    samples = np.random.default_rng(5).integers(0, 2**24, (*SIZE, channels))
    samples[0, 0], samples[0, 1] = 0, 2**24 - 1
    name = "little" if order == "<" else "big"
    body = b"".join(int(value).to_bytes(3, name) for value in samples.ravel())
    coded = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress}[compression](body)
    data = one_strip(coded, channels, 24, order, compression=compression)
    assert np.array_equal(read_image(data).pixels, samples >> 8)


@pytest.mark.parametrize("bits", [17, 20, 31])
def test_other_integers_above_16_bits_are_refused(bits):
    body = bytes((SIZE[1] * bits + 7) // 8 * SIZE[0])
    with pytest.raises(ImageError, match="a type of numbers that is not supported; convert"):
        read_file(one_strip(body, 1, bits, "<"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("sizes", [0, 35711440])
def test_number_of_bits_may_be_stated_once_for_all_samples(order, sizes):
    samples = noise(3, "u1")
    data = one_strip(samples.tobytes(), 3, 8, order, sizes=sizes)
    result = read_image(data)
    assert np.array_equal(result.pixels, samples)
    with PILImage.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), samples)
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(data[:-1])


FAX_ROWS = np.random.default_rng(8).random((20, 45)).cumsum(axis=1) % 5 < 2


def fax(compression: str, *, strip: int = 0, rows: int = 20) -> bytes:
    target = io.BytesIO()
    image = PILImage.fromarray(FAX_ROWS[:rows])
    options = {"strip_size": strip} if strip else {}
    image.save(target, "TIFF", compression=compression, **options)
    return target.getvalue()


def with_value(data: bytes, tag: int, value: int) -> bytes:
    """The file with another number in a tag of one number."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        entry, order = file.pages[0].tags[tag], file.byteorder
    changed = bytearray(data)
    kind = {3: "H", 4: "I"}[entry.dtype]
    struct.pack_into(order + kind, changed, entry.valueoffset, value)
    return bytes(changed)


def reports_end_of_fax() -> bool:
    """Whether imagecodecs raises an error where a fax ends early or is damaged."""
    data = with_value(with_value(fax("group4"), 278, 27), 257, 27)
    try:
        imagecodecs.tiff_decode(data)
    except imagecodecs.TiffError:
        return True
    return False


needs_end_of_fax = pytest.mark.skipif(
    not reports_end_of_fax(), reason="this version of imagecodecs does not report where a fax ends"
)


@pytest.mark.parametrize("missing", [1, 40])
def test_rows_of_a_fax_that_lacks_rows_are_read(missing):
    data = fax("group4")
    whole = read_image(data)
    for tag in (278, 257):
        data = with_value(data, tag, 20 + missing)
    assert np.array_equal(read_image(data).pixels[:20], whole.pixels)


@needs_end_of_fax
@pytest.mark.parametrize(
    ("compression", "white"), [("group4", 0), ("group4", 1), ("group3", 0), ("tiff_ccitt", 0)]
)
@pytest.mark.parametrize("missing", [1, 7, 40])
def test_missing_rows_of_a_fax_are_white(compression, white, missing, capfd):
    data = fax(compression)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        is_inverted = int(file.pages[0].photometric) != white
    data = with_value(data, 262, white)
    whole = read_image(data)
    assert whole.origin.notes == ()
    assert np.array_equal(whole.pixels[..., 0] > 0, FAX_ROWS ^ is_inverted)
    for tag in (278, 257):
        data = with_value(data, tag, 20 + missing)
    result = read_image(data)
    assert np.array_equal(result.pixels[:20], whole.pixels)
    assert result.pixels.shape[0] == 20 + missing and (result.pixels[20:] == 255).all()
    assert result.origin.damage == ()
    if compression == "group4":
        assert result.origin.notes == ("its missing rows were filled with white",)
    assert capfd.readouterr() == ("", "")


@needs_end_of_fax
def test_first_strip_of_a_fax_may_lack_rows():
    data = fax("group4", strip=6 * 5)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert page.rowsperstrip == 5 and len(page.dataoffsets) == 4
        assert int(page.photometric) == 1
    whole, short = read_image(data), fax("group4", rows=3)
    with tifffile.TiffFile(io.BytesIO(short)) as file:
        page = file.pages[0]
        start, size = page.dataoffsets[0], page.databytecounts[0]
    changed = bytearray(data + short[start : start + size])
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for tag, value in ((273, len(data)), (279, size)):
            entry = file.pages[0].tags[tag]
            kind = {3: "<H", 4: "<I"}[entry.dtype]
            struct.pack_into(kind, changed, entry.valueoffset, value)
    result = read_image(bytes(changed))
    assert np.array_equal(result.pixels[:3], whole.pixels[:3])
    assert (result.pixels[3:5] == 255).all()
    assert np.array_equal(result.pixels[5:], whole.pixels[5:])


@needs_end_of_fax
def test_fax_that_is_damaged_before_its_end_is_rejected():
    rows = np.random.default_rng(8).random((200, 90)).cumsum(axis=1) % 5 < 2
    target = io.BytesIO()
    PILImage.fromarray(rows).save(target, "TIFF", compression="group4", strip_size=10**6)
    data = bytearray(target.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        start, size = page.dataoffsets[0], page.databytecounts[0]
    data[start + size // 3 : start + size // 3 + 40] = bytes(40)
    with pytest.raises(DamagedImageError, match="is damaged"):
        read_file(bytes(data))


GRADIENT = np.stack(np.meshgrid(np.arange(150), np.arange(200))[:1] * 3, axis=2).astype(np.uint8)
GRADIENT[..., 1] = np.arange(200)[:, None]


def by_pillow(compression: str, mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    image = PILImage.fromarray(GRADIENT).convert(mode)
    image.save(target, "TIFF", compression=compression, strip_size=6000)
    return target.getvalue()


PARTS = {
    "lzw": by_pillow("tiff_lzw"),
    "deflate": by_pillow("tiff_adobe_deflate"),
    "jpeg": by_pillow("jpeg"),
    "tiles": written(GRADIENT, photometric="rgb", tile=(64, 64), compression="zlib"),
    "deep tiles": written(GRADIENT.astype("u2") * 257, photometric="rgb", tile=(64, 64),
                          compression="zlib", predictor=True),
    "planes": written(np.moveaxis(GRADIENT, 2, 0), photometric="rgb", planarconfig="separate",
                      rowsperstrip=50, compression="zlib"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_other_strips_and_tiles_of_a_damaged_page_are_kept(kind):
    data = PARTS[kind]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        starts, lengths = page.dataoffsets, page.databytecounts
    number = len(starts) // 2
    broken = bytearray(data)
    broken[starts[number] : starts[number] + lengths[number]] = b"\xff" * lengths[number]
    with pytest.raises(DamagedImageError):
        read_file(bytes(broken))
    result, whole = read_file(bytes(broken), keep_damaged=True), read_image(data)
    noun = "tiles" if "tiles" in kind else "strips"
    assert result.origin.damage == (f"1 of its {len(starts)} {noun} are missing",)
    same = (result.pixels == whole.pixels).all(axis=2).mean()
    missing = 3 if kind == "planes" else 1
    assert 1 - 1.7 * missing / len(starts) < same < 1


@pytest.mark.parametrize("kind", ["lzw", "deflate", "tiles"])
def test_page_that_is_cut_off_is_kept_in_part(kind):
    data = PARTS[kind]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        starts = file.pages[0].dataoffsets
        is_first = file.pages[0].offset < starts[0]
    if not is_first:
        pytest.skip("the tags of this file follow its pixels")
    cut = data[: starts[len(starts) // 2]]
    with pytest.raises(DamagedImageError, match="is cut off"):
        read_file(cut)
    result = read_file(cut, keep_damaged=True)
    assert np.array_equal(result.pixels[:32], read_image(data).pixels[:32])


def test_page_that_cannot_be_decoded_is_left_out(data):
    path = data / "images/cases/pages-2nd-damaged.tif"
    strict = read_file(path).frames()
    next(strict)
    with pytest.raises(DamagedImageError, match="is damaged"):
        next(strict)
    frames = list(read_file(path, keep_damaged=True).frames())
    assert [frame.image.origin.damage for frame in frames] == [(), ("page 2 of 3 was left out",)]


def test_pages_before_a_missing_one_are_kept():
    pages = np.random.default_rng(1).integers(0, 256, (4, 50, 60)).astype(np.uint8)
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as file:
        for page in pages:
            file.write(page, photometric="minisblack", metadata=None)
    data = target.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        last = max(file.pages[3].offset, file.pages[3].dataoffsets[0])
    with pytest.raises(DamagedImageError):
        list(read_file(data[: last + 10]).frames())
    frames = list(read_file(data[: last + 10], keep_damaged=True).frames())
    assert len(frames) == 3
    for frame, page in zip(frames, pages, strict=False):
        assert np.array_equal(frame.image.pixels[..., 0], page)
    assert any(frame.image.origin.damage for frame in frames)


RAW_ADVICE = (
    "is a raw file; develop it first, for example with darktable or RawTherapee, and export TIFF"
)


@pytest.mark.parametrize("suffix", ["nef", "ARW", "dng", "pef", "srw", "cr2"])
def test_files_with_the_suffix_of_raw_files_are_raw(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(written(noise(3, "u1"), photometric="rgb"))
    with pytest.raises(ImageError) as caught:
        read_file(path)
    assert str(caught.value) == f"{path}: {RAW_ADVICE}"


@pytest.mark.parametrize("place", ["first", "second", "sub"])
def test_mosaics_of_sensors_are_raw(place):
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as file:
        if place != "first":
            file.write(noise(3, "u1"), photometric="rgb", subifds=1 if place == "sub" else None)
        file.write(noise(1, "u2")[..., 0], photometric="cfa")
    with pytest.raises(ImageError, match=RAW_ADVICE):
        read_file(target.getvalue())


def test_case_of_a_canon_raw_file_is_raw(data):
    with pytest.raises(ImageError, match=RAW_ADVICE):
        read_file((data / "images/cases/photo.cr2").read_bytes())
