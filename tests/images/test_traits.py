"""Each cell of the README's table of formats, verified by reading and by ExifTool."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.errors import OutputError
from upscale.images import (
    Encoding,
    Frame,
    Image,
    ImageSequence,
    Metadata,
    encode_file,
    losses,
    read_file,
    read_image,
    write_file,
)
from upscale.images.formats import writable_traits

TRAITS = writable_traits()
EXIFTOOL_FORMATS = [name for name in TRAITS if name not in ("dds", "tga", "hdr", "exr")]
"""Formats that ExifTool reads, or finds without a suffix."""
DISPLAYED = [name for name in TRAITS if not TRAITS[name].is_linear]
"""Formats that keep values as they are; linear light has tests of its own."""

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Telescope"/>'
    b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x78\x00\x07A thing"
FIELDS = ("icc", "exif", "xmp", "iptc", "dpi", "comment", "cicp")
EXIFTOOL_TAGS = {
    "icc": ("ProfileDescription", "sRGB built-in"),
    "exif": ("Make", "Some maker"),
    "xmp": ("CreatorTool", "Telescope"),
    "iptc": ("Caption-Abstract", "A thing"),
    "comment": ("Comment", "a remark"),
}


@pytest.fixture
def metadata(exif_block):
    """Metadata with one field filled."""
    values = {
        "icc": SRGB,
        "exif": exif_block(1),
        "xmp": XMP,
        "iptc": IPTC,
        "dpi": (200.0, 200.0),
        "comment": "a remark",
        "cicp": (12, 13),
    }
    return lambda field: Metadata(**{field: values[field]})


def reread(content, format, read=read_image):
    """Read the content of a file, whose suffix names a format that has no signature."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file.{format}"
        path.write_bytes(content)
        return read(path)


def smooth(dtype="uint8", channels=3, alpha=False, size=(40, 32)):
    """Gradients, which lossy formats keep well."""
    full = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    down, across = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    planes = [across, 1 - across, down][:channels]
    pixels = (np.dstack(planes) * full).astype(dtype)
    plane = ((0.3 + 0.7 * down) * full).astype(dtype) if alpha else None
    return Image(np.ascontiguousarray(pixels), plane)


def exiftool(data, tmp_path):
    """Tags found by ExifTool."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    path = tmp_path / "file"
    path.write_bytes(data)
    done = subprocess.run(
        ["exiftool", "-json", "-n", str(path)], capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)[0]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("format", TRAITS)
def test_metadata_is_kept_or_reported_as_lost_by_the_traits(format, field, metadata):
    kept = field in TRAITS[format].carries
    image = replace(smooth(), metadata=metadata(field))
    if field == "cicp" and not kept:
        with pytest.raises(OutputError, match="colour space"):
            encode_file(image, format)
        return
    back = getattr(reread(encode_file(image, format), format).metadata, field)
    message = " ".join(losses(image, format))
    if not kept:
        assert back is None
        # An sRGB profile is not missed; see test_profiles for the others.
        assert field == "icc" or {"dpi": "resolution"}.get(field, field) in message.lower()
        return
    assert not message or "256" in message
    if field == "dpi":
        assert back == pytest.approx((200, 200), abs=0.02)
    elif field == "exif":
        assert tags(back) == tags(image.metadata.exif)
    else:
        assert back == getattr(image.metadata, field)


def tags(block):
    """Tags of an EXIF block without offsets and orientation, which TIFF stores elsewhere."""
    result = PILImage.Exif()
    result.load(block)
    inner = result.get_ifd(0x8769)
    return {**result, **inner, 0x8769: None, 0x0112: None}


@pytest.mark.parametrize("field", EXIFTOOL_TAGS)
@pytest.mark.parametrize("format", EXIFTOOL_FORMATS)
def test_another_program_finds_the_same_metadata(format, field, metadata, tmp_path):
    image = replace(smooth(), metadata=metadata(field))
    tag, value = EXIFTOOL_TAGS[field]
    result = exiftool(encode_file(image, format), tmp_path).get(tag)
    assert (result == value) == (field in TRAITS[format].carries)


@pytest.mark.parametrize("format", [name for name in TRAITS if "dpi" in TRAITS[name].carries])
def test_another_program_finds_the_resolution(format, metadata, tmp_path):
    result = exiftool(encode_file(replace(smooth(), metadata=metadata("dpi")), format), tmp_path)
    metres = {"png": "PixelsPerUnitX", "bmp": "PixelsPerMeterX"}
    if format in metres:
        assert result[metres[format]] == round(200 / 0.0254)
    else:
        assert (result["XResolution"], result["ResolutionUnit"]) == (
            200,
            2 if format == "tiff" else 1,
        )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("format", DISPLAYED)
def test_depth_is_that_of_the_traits(format, dtype):
    image, traits = smooth(dtype), TRAITS[format]
    encoding = Encoding(lossless=traits.lossless or None)
    back = reread(encode_file(image, format, encoding), format)
    assert back.bits == min(image.bits, traits.depth)
    assert bool(losses(image, format)) == (image.bits > traits.depth or format == "gif")
    scale = {"uint8": 255, "uint16": 65535, "float32": 1}
    levels = 2 ** min(back.bits, 24) - 1
    error = np.abs(back.pixels / scale[back.pixels.dtype.name] - image.pixels / scale[dtype])
    lossy = 0.15 if format == "gif" else 12 / 255
    # floats are rounded twice: to 16 bits, then to what the format has
    allowed = 0.55 / levels + 1e-7 if traits.lossless else lossy
    assert error.max() <= allowed


@pytest.mark.parametrize(
    ("format", "alpha"),
    [
        *((format, False) for format in TRAITS),
        *((format, True) for format, traits in TRAITS.items() if traits.alpha != "none"),
    ],
)
def test_grey_stays_one_channel_or_three_equal_ones(format, alpha):
    image = smooth(channels=1, alpha=alpha)
    back = reread(encode_file(image, format), format)
    if TRAITS[format].grey and not (format == "tga" and alpha):  # which few programs read
        assert back.pixels.shape[2] == 1
    spread = back.pixels.astype(int).max(axis=2) - back.pixels.astype(int).min(axis=2)
    # libwebp turns grey into colour differences that are a level off when it loses.
    assert spread.max() <= (1 if format == "webp" else 0)


@pytest.mark.parametrize("format", DISPLAYED)
def test_transparency_is_that_of_the_traits(format):
    image, kind = smooth(alpha=True), TRAITS[format].alpha
    if kind == "none":
        with pytest.raises(OutputError, match="transparency"):
            encode_file(image, format)
        return
    back = reread(encode_file(image, format), format).alpha
    if kind == "binary":
        assert np.array_equal(back, np.where(image.alpha >= 128, 255, 0))
    else:
        assert np.abs(back.astype(int) - image.alpha).max() <= 6


@pytest.mark.parametrize("format", [name for name in DISPLAYED if TRAITS[name].lossless])
def test_lossless_is_exact(format, noise):
    image = noise(alpha=TRAITS[format].alpha == "full")
    back = reread(encode_file(image, format, Encoding(lossless=True)), format)
    assert np.array_equal(back.pixels, image.pixels)
    assert image.alpha is None or np.array_equal(back.alpha, image.alpha)


@pytest.mark.parametrize("format", [name for name in TRAITS if not TRAITS[name].lossless])
def test_lossless_is_rejected_by_lossy_formats(format):
    with pytest.raises(OutputError, match="lossless"):
        encode_file(smooth(), format, Encoding(lossless=True))


@pytest.mark.parametrize(
    "format", [name for name in TRAITS if TRAITS[name].lossy and TRAITS[name].has_quality]
)
def test_quality_matters(format, noise):
    sizes = [len(encode_file(noise(), format, Encoding(quality))) for quality in (20, 60, 98)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("animated", [True, False])
@pytest.mark.parametrize("format", TRAITS)
def test_several_images_are_kept_by_the_traits(format, animated):
    images = [smooth(size=(20, 16)), smooth(channels=3, size=(20, 16))]
    images[1].pixels[:] = 255 - images[1].pixels
    seconds = Fraction(1, 5) if animated else None
    frames = [Frame(image, seconds) for image in images]
    sequence = ImageSequence(lambda: iter(frames), 2, 3, animated, format)
    if TRAITS[format].frames != ("animation" if animated else "pages"):
        with pytest.raises(OutputError):
            encode_file(sequence, format)
        return
    back = read_file(encode_file(sequence, format))
    assert isinstance(back, ImageSequence)
    assert (back.count, back.animated) == (2, animated)
    assert not animated or back.plays == 3
    for frame, image in zip(back.frames(), images, strict=True):
        assert frame.seconds == seconds
        error = np.abs(frame.image.pixels.astype(int) - image.pixels)
        assert error.mean() < 8


@pytest.mark.parametrize("quality", [20, 75, 90, 95, 98, 100])
def test_quality_of_a_jpeg_is_kept_where_it_is_higher(quality, pillow_bytes):
    pil_image = PILImage.fromarray(smooth().pixels)
    image = read_image(pillow_bytes(pil_image, "JPEG", quality=quality))
    assert image.origin.quality == quality
    again = read_image(encode_file(image, "jpeg"))
    assert again.origin.quality == max(95, quality)
    asked = read_image(encode_file(image, "jpeg", Encoding(80)))
    assert asked.origin.quality == 80


def test_lossless_source_stays_lossless(noise):
    stored = encode_file(noise(), "webp", Encoding(lossless=True))
    image = read_image(stored)
    assert image.origin.lossless
    assert read_image(encode_file(image, "webp")).origin.lossless
    assert not read_image(encode_file(image, "webp", Encoding(90))).origin.lossless
    assert not read_image(encode_file(noise(), "webp")).origin.lossless


def test_dimensions_and_thumbnail_in_metadata_are_updated(tmp_path):
    """A block by ExifTool with all tags that repeat the dimensions."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    small, path = smooth(), tmp_path / "a.jpg"
    write_file(small, path, format="jpeg")
    (tmp_path / "thumb.jpg").write_bytes(path.read_bytes())
    arguments = ["-Make=Maker", "-DateTimeOriginal=2020:01:02 03:04:05", "-GPSLatitude=48.1",
                 "-GPSLatitudeRef=N", "-ExifImageWidth=40", "-ExifImageHeight=32",
                 f"-ThumbnailImage<={tmp_path / 'thumb.jpg'}", "-XMP-tiff:ImageWidth=40",
                 "-XMP-exif:ExifImageHeight=32"]  # fmt: skip
    subprocess.run(["exiftool", "-q", "-overwrite_original", *arguments, path], check=True)
    read = read_image(path)
    grown = cv2.resize(read.pixels, (400, 320), interpolation=cv2.INTER_NEAREST)
    large = replace(read, pixels=255 - grown)
    for format in ("jpeg", "png", "webp"):
        written = encode_file(large, format)
        result = exiftool(written, tmp_path)
        assert (result["ExifImageWidth"], result["ExifImageHeight"]) == (400, 320)
        assert result["DateTimeOriginal"] == "2020:01:02 03:04:05"
        assert result["GPSLatitude"] == pytest.approx(48.1)
        assert b"tiff:ImageWidth>400<" in written or b'ImageWidth="400"' in written
        shown = subprocess.run(
            ["exiftool", "-b", "-ThumbnailImage", tmp_path / "file"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        thumbnail = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert thumbnail.shape == (128, 160, 3)
        expected = cv2.resize(large.pixels, (160, 128), interpolation=cv2.INTER_AREA)
        assert np.abs(thumbnail.astype(int) - expected).mean() < 4
        assert read_image(written).metadata.exif.count(b"JFIF") == 1
