from __future__ import annotations

import io
import shutil
import struct
import subprocess

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from upscale.errors import ImageError
from upscale.images import read_file, read_image, read_size
from upscale.images.codecs.iso_boxes import box, boxes
from upscale.images.codecs.jpeg2000_codestream import SIGNATURE, missing_tiles, parse

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF_NAME = b"JpgTiffExif->JP2"
XMP_NAME = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def noise_of(bits, channels, size=(19, 23)):
    samples = np.random.default_rng(8).integers(0, 2**bits, (*size, channels))
    return samples.astype(np.uint8 if bits <= 8 else np.uint16)


def written(format, mode, **options):
    """An image as Pillow writes it, and its samples."""
    samples = noise_of(8, len(mode), (64, 32))
    image = Image.fromarray(samples if len(mode) > 1 else samples[..., 0], mode)
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue(), samples


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", [None, "tga_rle"])
@pytest.mark.parametrize("orientation", [-1, 1])
def test_targa(tmp_path, mode, compression, orientation):
    data, samples = written("TGA", mode, compression=compression, orientation=orientation)
    path = tmp_path / "a.TGA"
    path.write_bytes(data)
    result = read_image(path)
    assert np.array_equal(result.samples(), samples) and read_size(path) == (32, 64)
    assert result.origin.format == "tga"


def test_targa_with_unused_alpha_is_opaque(tmp_path):
    samples = noise_of(8, 4)
    samples[..., 3] = 0
    Image.fromarray(samples).save(tmp_path / "a.tga")
    result = read_image(tmp_path / "a.tga")
    assert result.alpha is None and np.array_equal(result.pixels, samples[..., :3])


def test_targa_is_recognised_by_its_suffix(data, tmp_path):
    content = (data / "images/pillow/la.tga").read_bytes()
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="is not an image"):
        read_file(tmp_path / "a.png")


@pytest.mark.parametrize("top", [1, 5, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_integers_are_scaled_to_the_full_range(top, kind):
    channels = 3 if kind in (3, 6) else 1
    samples = np.random.default_rng(8).integers(0, top + 1, (19, 23, channels))
    samples[0, 0], samples[-1, -1] = 0, top
    body = samples.astype(">u2" if top > 255 else "u1").tobytes()
    if kind < 4:
        body = "\n".join(map(str, samples.ravel())).encode()
    result = read_image(b"P%d # a remark\n23\n# and another\n19\n%d\n" % (kind, top) + body)
    full = 65535 if top > 255 else 255
    assert np.array_equal(np.rint(result.pixels / full * top), samples)
    assert result.pixels.max() == full and result.pixels.dtype == (np.uint16 if top > 255 else "u1")
    assert result.bits == (top.bit_length() if top > 255 else 8)


def test_sixteen_bits_of_a_real_file(data):
    path = data / "images/pillow/hopper_16bit.pgm"
    expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read_image(path).pixels[..., 0], expected)


@pytest.mark.parametrize("kind", [1, 4])
def test_binary_pnm_of_one_bit(kind):
    black = np.random.default_rng(8).integers(0, 2, (5, 11)).astype(np.uint8)
    body = np.packbits(black, axis=1).tobytes()
    if kind == 1:
        body = "\n".join("".join(map(str, row)) for row in black).encode()
    result = read_image(b"P%d\n11 5\n" % kind + body)
    assert np.array_equal(result.pixels[..., 0], (1 - black) * 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floats(channels, order):
    samples = np.random.default_rng(8).random((5, 7, channels), np.float32)
    head = b"P%s\n7 5\n%d.0\n" % (b"F" if channels == 3 else b"f", -1 if order == "<" else 1)
    result = read_image(head + samples[::-1].astype(order + "f4").tobytes())
    assert result.pixels.dtype == np.float32 and np.array_equal(result.pixels, samples)


def test_floats_of_a_real_file(data):
    path = data / "images/pillow/hopper.pfm"
    expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read_image(path).pixels[..., 0], expected)


@pytest.mark.parametrize("bits", [4, 8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", ["jp2", "j2k"])
def test_jpeg_2000_keeps_its_depth(bits, channels, container):
    samples = noise_of(bits, channels)
    data = imagecodecs.jpeg2k_encode(
        samples if channels > 1 else samples[..., 0],
        level=0,
        bitspersample=bits,
        codecformat=container,
        reversible=True,
    )
    result = read_image(bytes(data))
    full = np.iinfo(result.pixels.dtype).max
    assert np.array_equal(np.rint(result.samples() / full * (2**bits - 1)), samples)
    assert result.bits == (bits if bits > 8 else 8)


def test_metadata_of_jpeg_2000(exif_block):
    plain = bytes(imagecodecs.jpeg2k_encode(noise_of(8, 3), level=0, codecformat="jp2"))
    old = box(b"colr", b"\1\0\0" + struct.pack(">I", 16))
    new = box(b"colr", b"\2\0\0" + PROFILE)
    start = plain.index(b"jp2h") - 4
    length = int.from_bytes(plain[start : start + 4], "big") + len(new) - len(old)
    data = plain[:start] + length.to_bytes(4, "big") + plain[start + 4 :].replace(old, new)
    data += box(b"uuid", EXIF_NAME + exif_block(6)) + box(b"uuid", XMP_NAME + b"<x:xmpmeta/>")
    result = read_image(data).metadata
    assert (result.icc, result.exif, result.xmp) == (PROFILE, exif_block(1), b"<x:xmpmeta/>")


def test_container_with_a_wrong_size_is_rejected():
    """The decoder would fill 13 GB."""
    data = bytes(imagecodecs.jpeg2k_encode(noise_of(8, 3), level=0, codecformat="jp2"))
    size = struct.pack(">II", 19, 23)
    with pytest.raises(ImageError, match="is damaged"):
        read_image(data.replace(b"ihdr" + size, b"ihdr" + struct.pack(">II", 65535, 65535)))


@pytest.mark.parametrize("channels", [3, 4])
def test_qoi(channels):
    samples = noise_of(8, channels)
    data = bytes(imagecodecs.qoi_encode(samples))
    assert np.array_equal(read_image(data).samples(), samples) and read_size(data) == (23, 19)
    with pytest.raises(ImageError, match="is cut off"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["bmp", "png"])
def test_largest_image_of_an_ico_is_read(kind):
    samples = noise_of(8, 4, (64, 64))
    target = io.BytesIO()
    sizes = [(16, 16), (64, 64), (32, 32)]
    Image.fromarray(samples).save(target, "ICO", sizes=sizes, bitmap_format=kind)
    result = read_image(target.getvalue())
    assert read_size(target.getvalue()) == (64, 64)
    assert np.array_equal(result.samples(), samples)


def icon(bits, pixels, mask, head=40, stated_bits=None, after=b"", palette=b""):
    """An icon with one bitmap; `pixels` holds whole rows, `mask` is True where transparent."""
    height, width = mask.shape
    fields = (head, width, 2 * height, 1, bits, 0, 0, 0, 0, len(palette) // 4, 0)
    hidden = np.packbits(np.pad(mask, ((0, 0), (0, -width % 32))), axis=1)
    body = struct.pack("<IiiHHIIiiII", *fields) + bytes(head - 40) + palette
    body += pixels[::-1].tobytes() + hidden[::-1].tobytes() + after
    stated = bits if stated_bits is None else stated_bits
    entry = struct.pack("<BBBBHHII", width, height, 0, 0, 1, stated, len(body), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + body


@pytest.mark.parametrize("head", [40, 108, 124])
@pytest.mark.parametrize("stated_bits", [0, 8, 24])
def test_mask_of_an_icon_lies_after_its_pixels(head, stated_bits):
    colours, mask = noise_of(8, 3, (10, 19)), noise_of(1, 1, (10, 19))[..., 0] > 0
    rows = np.pad(colours[..., ::-1].reshape(10, 57), ((0, 0), (0, 3)))
    result = read_image(icon(24, rows, mask, head, stated_bits, after=PROFILE))
    assert np.array_equal(result.pixels, colours)
    assert np.array_equal(result.alpha, np.where(mask, 0, 255))


def test_mask_of_an_icon_with_a_palette():
    palette, mask = noise_of(8, 4, (16, 1)), noise_of(1, 1, (12, 32))[..., 0] > 0
    indices = np.random.default_rng(4).integers(0, 16, (12, 32)).astype(np.uint8)
    rows = indices[:, ::2] << 4 | indices[:, 1::2]
    result = read_image(icon(4, rows, mask, palette=palette.tobytes()))
    assert np.array_equal(result.pixels, palette[:, 0, 2::-1][indices])
    assert np.array_equal(result.alpha, np.where(mask, 0, 255))


@pytest.mark.parametrize("stated_bits", [0, 24, 32])
@pytest.mark.parametrize("has_alpha", [True, False])
def test_icon_of_32_bits_has_alpha_or_a_mask(stated_bits, has_alpha):
    samples, mask = noise_of(8, 4, (10, 19)), noise_of(1, 1, (10, 19))[..., 0] > 0
    if not has_alpha:
        samples[..., 3] = 0
    result = read_image(icon(32, samples, mask, stated_bits=stated_bits))
    assert np.array_equal(result.pixels, samples[..., 2::-1])
    assert np.array_equal(result.alpha, samples[..., 3] if has_alpha else np.where(mask, 0, 255))


@pytest.mark.parametrize("lost", [1, 40, 200])
def test_icon_that_is_cut_off(lost):
    data = icon(24, np.zeros((10, 48), np.uint8), np.zeros((10, 16), bool))
    assert read_image(data).alpha.min() == 255
    assert read_image(data[:14] + bytes(4) + data[18:]).alpha.min() == 255  # without its length
    with pytest.raises(ImageError, match="is cut off"):
        read_image(data[:-lost])


def test_size_of_an_ico_is_that_of_the_image_in_it(data):
    with pytest.raises(ImageError, match="65535x32767 is more than the limit"):
        read_image(data / "images/pillow/decompression_bomb.ico")


def test_photoshop(data):
    path = data / "images/pillow/hopper.psd"
    result = read_image(path)
    with Image.open(path) as image:
        assert np.array_equal(result.pixels, np.asarray(image))
        assert image.layers
    assert result.origin.notes == ("its layers were left out",)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_dds(mode):
    data, samples = written("DDS", mode)
    assert np.array_equal(read_image(data).samples(), samples) and read_size(data) == (32, 64)


def test_compressed_dds():
    data, samples = written("DDS", "RGBA", pixel_format="DXT5")
    result = read_image(data)
    assert np.array_equal(result.samples().shape, samples.shape)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(result.samples(), np.asarray(image))


@pytest.mark.parametrize(
    "data",
    [
        b"P6\n999999999 999999999\n255\n",
        b"qoif" + struct.pack(">II", 2**31, 2**31) + b"\3\0" + bytes(7) + b"\1",
        b"DDS " + struct.pack("<7I", 124, 0x1007, 2**20, 2**20, 0, 0, 0) + bytes(96),
    ],
)
def test_bombs_are_rejected_before_they_are_decoded(data):
    with pytest.raises(ImageError):
        read_image(data)


@pytest.mark.parametrize("name", ["zero_height.j2k", "no_cursors.cur"])
def test_files_without_an_image_are_rejected(data, name):
    with pytest.raises(ImageError):
        read_image(data / f"images/pillow/{name}")


@pytest.mark.parametrize("top", [1, 100, 255, 1023, 65535])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pam(channels, top):
    samples = np.random.default_rng(8).integers(0, top + 1, (19, 23, channels))
    samples[0, 0] = top
    names = ("GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA")
    head = f"P7\n# a remark\nWIDTH 23\nHEIGHT 19\nDEPTH {channels}\nMAXVAL {top}\n"
    head += f"TUPLTYPE {names[channels - 1]}\nENDHDR\n"
    data = head.encode() + samples.astype(">u2" if top > 255 else "u1").tobytes()
    result = read_image(data)
    full = 65535 if top > 255 else 255
    assert result.origin.format == "pnm" and result.pixels.dtype.itemsize == 1 + (top > 255)
    assert np.array_equal(np.rint(result.samples() * (top / full)), samples)
    assert (result.alpha is not None) == (channels in (2, 4))
    with pytest.raises(ImageError, match="is cut off"):
        read_image(data[:-1])


def test_pam_of_another_program(data):
    path = data / "images/cases/pam.pam"
    content = path.read_bytes()
    pixels = np.frombuffer(content[content.index(b"ENDHDR\n") + 7 :], np.uint8)
    assert np.array_equal(read_image(path).samples().ravel(), pixels)


def test_pam_with_unknown_channels_is_rejected():
    head = b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 7\nMAXVAL 255\nENDHDR\n"
    with pytest.raises(ImageError, match="has 7 channels, which is not supported"):
        read_image(head + bytes(28))


def opj(tool: str, *arguments: object) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("size", "steps"),
    [((33, 33), "2x1"), ((64, 48), "2x2"), ((47, 39), "2x2"), ((47, 36), "2x1"), ((64, 48), "1x2")],
)
def test_subsampled_jpeg_2000_equals_openjpeg(tmp_path, size, steps):
    """OpenJPEG's program repeats the samples of smaller components and converts sYCC."""
    width, height = size
    across, down = map(int, steps.split("x"))
    small = -(-width // across), -(-height // down)
    rng = np.random.default_rng(3)
    luma = cv2.resize(rng.integers(16, 240, (5, 7)).astype(np.uint8), size)
    chroma = [cv2.resize(rng.integers(60, 200, (3, 4)).astype(np.uint8), small) for _ in range(2)]
    (tmp_path / "a.raw").write_bytes(b"".join(plane.tobytes() for plane in (luma, *chroma)))
    layout = f"{width},{height},3,8,u@1x1:{steps}:{steps}"
    opj("opj_compress", "-i", tmp_path / "a.raw", "-o", tmp_path / "a.jp2", "-F", layout)
    result = read_image(tmp_path / "a.jp2")
    if steps == "1x2":
        # The program does not convert such images.
        expected = cv2.cvtColor(
            cv2.merge([luma, *(np.repeat(plane, 2, 0)[:height] for plane in chroma[::-1])]),
            cv2.COLOR_YCrCb2RGB,
        )
    else:
        opj("opj_decompress", "-i", tmp_path / "a.jp2", "-o", tmp_path / "a.ppm")
        expected = read_image(tmp_path / "a.ppm").pixels
    assert np.abs(result.pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_whose_components_are_all_subsampled(tmp_path, channels):
    samples = np.moveaxis(noise_of(8, channels, (20, 26)), 2, 0)
    (tmp_path / "a.raw").write_bytes(samples.tobytes())
    layout = f"52,40,{channels},8,u@" + ":".join(["2x2"] * channels)
    opj("opj_compress", "-i", tmp_path / "a.raw", "-o", tmp_path / "a.j2k", "-F", layout)
    expected = np.moveaxis(samples, 0, 2).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(read_image(tmp_path / "a.j2k").samples(), expected)


def test_case_of_subsampled_jpeg_2000_has_vertical_bars(data):
    pixels = read_image(data / "images/cases/jp2-odd-422.jp2").pixels.astype(int)
    # The first and the last row are those of another picture.
    assert np.abs(pixels[1:-1] - pixels[16]).max() <= 8
    assert np.ptp(pixels[16], axis=0).min() > 150


@pytest.mark.parametrize("columns", [3, 4])
def test_palette_in_jpeg_2000(columns):
    colours = np.random.default_rng(5).integers(0, 256, (16, columns)).astype(np.uint8)
    indices = noise_of(4, 1)[..., 0]
    plain = bytes(imagecodecs.jpeg2k_encode(indices, level=0, codecformat="jp2", reversible=True))
    palette = box(b"pclr", struct.pack(">HB", 16, columns) + b"\7" * columns + colours.tobytes())
    mapping = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(columns))
    extra = palette + box(b"cmap", mapping)
    if columns == 4:
        kinds = [(0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 0)]
        extra += box(
            b"cdef", struct.pack(">H", 4) + b"".join(struct.pack(">HHH", *k) for k in kinds)
        )
    content = b""
    for kind, body in boxes(plain):
        if kind == b"jp2h":
            colour = box(b"colr", b"\1\0\0" + struct.pack(">I", 16))
            content += box(kind, box(b"ihdr", body[8:22]) + colour + extra)
        else:
            content += box(kind, body)
    assert np.array_equal(read_image(content).samples(), colours[indices])


@pytest.mark.parametrize("bits", [8, 12])
def test_luma_and_chroma_of_any_depth_become_rgb(bits):
    yellow = np.array([226, 0, 149]) / 255  # of sRGB (255, 255, 0)
    samples = np.tile(np.rint(yellow * (2**bits - 1)), (16, 16, 1)).astype(
        "u1" if bits == 8 else "u2"
    )
    data = bytes(imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits, mct=False,
                                           codecformat="jp2", reversible=True))  # fmt: skip
    old, new = (box(b"colr", b"\1\0\0" + struct.pack(">I", number)) for number in (16, 18))
    assert old in data
    result = read_image(data.replace(old, new))
    levels = result.pixels / np.iinfo(result.pixels.dtype).max
    assert np.abs(levels - (1, 1, 0)).max() < 0.02


def test_missing_tiles_of_jpeg_2000_are_cut_off(data):
    path = data / "images/cases/j2k-missing-tiles.j2k"
    with pytest.raises(ImageError, match="is cut off"):
        read_image(path)
    result = read_file(path, keep_damaged=True)
    assert result.origin.damage == ("6 of its 12 tiles are missing or damaged",)
    assert result.pixels[:100].mean() > 50 and not result.pixels[150:].any()


@pytest.mark.parametrize("container", ["jp2", "j2k"])
def test_cut_jpeg_2000_is_cut_off(container):
    data = bytes(imagecodecs.jpeg2k_encode(noise_of(8, 3), level=0, codecformat=container))
    assert read_image(data).width == 23
    for length in range(200, len(data) - 2, 97):
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(ImageError, match="is cut off"):
                read_image(data[:length] + end)


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_signed_jpeg_2000_of_openjpeg(tmp_path, bits, channels):
    levels = np.random.default_rng(2).integers(0, 2**bits, (channels, 19, 23))
    signed = (levels - 2 ** (bits - 1)).astype(np.int8 if bits <= 8 else ">i2")
    (tmp_path / "a.raw").write_bytes(signed.tobytes())
    layout = f"23,19,{channels},{bits},s"
    opj("opj_compress", "-i", tmp_path / "a.raw", "-o", tmp_path / "a.jp2", "-F", layout,
        "-n", 2)  # fmt: skip
    result = read_image(tmp_path / "a.jp2")
    full = np.iinfo(result.pixels.dtype).max
    read = np.rint(result.pixels / full * (2**bits - 1))
    assert np.array_equal(read, np.moveaxis(levels, 0, 2))


def with_colours(plain, body):
    """A JP2 of imagecodecs with another content of its `colr` box."""
    parts = dict(boxes(plain))
    head = dict(boxes(parts[b"jp2h"])) | {b"colr": body}
    parts[b"jp2h"] = b"".join(box(*part) for part in head.items())
    return b"".join(box(*part) for part in parts.items())


@pytest.mark.parametrize("white", [b"\0D50", b"\0D65"])
@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_cielab_in_jpeg_2000_equals_openjpeg(tmp_path, bits, kind, white):
    lab = np.array([[[100, 0, 0], [54, 60, 40], [30, 20, -50], [53, -30, 36], [0, 0, 0]]])
    top, half = 2**bits - 1, 2 ** (bits - 1)
    ranges = (100, 0, 255, half, 255, half)
    axes = [lab[..., n] / ranges[2 * n] + ranges[2 * n + 1] / top for n in range(3)]
    samples = np.rint(np.stack(axes, 2) * top).clip(0, top).astype(kind).repeat(4, 0)
    plain = bytes(imagecodecs.jpeg2k_encode(samples, level=0, mct=False, reversible=True,
                                            codecformat="jp2"))  # fmt: skip
    colr = b"\1\0\0" + struct.pack(">I", 14) + struct.pack(">6I", *ranges) + white
    path = tmp_path / "a.jp2"
    path.write_bytes(with_colours(plain, colr))
    pixels = read_image(path).pixels
    assert pixels.dtype == np.uint16 and pixels[0, 0].min() > 65000
    opj("opj_decompress", "-i", path, "-o", tmp_path / "a.png")
    expected = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.abs(pixels.astype(int) - expected).max() <= 64


@pytest.mark.parametrize("profile", [b"\2\0\0\0", b"\1\0\0" + struct.pack(">I", 16)])
def test_jpeg_2000_with_an_empty_profile_or_a_container_that_pillow_refuses(profile):
    samples = noise_of(8, 4)
    plain = bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="jp2"))
    data = with_colours(plain, profile)
    assert np.array_equal(read_image(data).samples(), samples)


def test_jpeg_2000_of_many_channels_is_rejected():
    data = imagecodecs.jpeg2k_encode(noise_of(8, 5), level=0, codecformat="j2k")
    with pytest.raises(ImageError, match="has 5 channels, which is not supported"):
        read_image(bytes(data))


def test_markers_without_a_length_in_jpeg_2000_are_skipped():
    samples = noise_of(8, 3)
    data = bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k"))
    start = data.index(b"\xff\x90")
    assert np.array_equal(read_image(data[:start] + b"\xff\x30" + data[start:]).pixels, samples)


def test_tiles_without_samples_need_not_be_there():
    """As in the conformance files of the standard: a subsampled component may skip a tile."""
    size = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 100, 100, 1, 33, 99, 34, 0, 0, 1, 7, 4, 4)
    data = SIGNATURE + size
    # The first row of tiles covers one row of the image, the last column one pixel.
    assert parse(data, 0).tiles == {2, 4}
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 14, 0, 1) + b"\xff\x93"
    first = data + tile[:4] + struct.pack(">H", 2) + tile[6:]
    assert missing_tiles(first, 0, parse(data, 0).tiles) == 1
