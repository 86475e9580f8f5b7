"""Positions and sizes in metadata follow the image; ExifTool writes and reads them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.images import exiftool
from upscale.images import encode_file, read_image
from upscale.images.metadata.xmp_packet import XmpPacket

CASES = Path(__file__).parents[2] / "data" / "images" / "cases"
KEEP_XMP = ["jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"]
KEEP_EXIF = KEEP_XMP


def upscaled(image, scale=2):
    """The image with each pixel repeated."""
    alpha = image.alpha if image.alpha is None else np.kron(image.alpha, np.ones((scale, scale)))
    pixels = image.pixels.repeat(scale, 0).repeat(scale, 1)
    return replace(image, pixels=pixels, alpha=alpha)


def turned_and_doubled(data, format="jpeg"):
    return encode_file(upscaled(read_image(data)), format)


def jpeg(size=(96, 72)):
    target = io.BytesIO()
    PILImage.new("RGB", size, (90, 120, 150)).save(target, "JPEG")
    return target.getvalue()


@pytest.mark.parametrize("format", KEEP_XMP)
def test_sizes_of_a_panorama_are_those_of_the_upscaled_image(format, tmp_path):
    written = turned_and_doubled((CASES / "jpg-pano360.jpg").read_bytes(), format)
    found = exiftool.named(written, tmp_path, "-XMP-GPano:all")
    assert found["FullPanoWidthPixels"] == found["CroppedAreaImageWidthPixels"] == 384
    assert found["FullPanoHeightPixels"] == found["CroppedAreaImageHeightPixels"] == 192
    assert found["CroppedAreaLeftPixels"] == found["CroppedAreaTopPixels"] == 0
    assert found["ProjectionType"] == "equirectangular"


def test_a_part_of_a_panorama_stays_at_its_place(tmp_path):
    source = exiftool.written(
        jpeg(), tmp_path, "-XMP-GPano:FullPanoWidthPixels=400",
        "-XMP-GPano:FullPanoHeightPixels=200", "-XMP-GPano:CroppedAreaImageWidthPixels=96",
        "-XMP-GPano:CroppedAreaImageHeightPixels=72", "-XMP-GPano:CroppedAreaLeftPixels=30",
        "-XMP-GPano:CroppedAreaTopPixels=17", "-XMP-GPano:PoseHeadingDegrees=33",
        "-XMP-GPano:LargestValidInteriorRectLeft=5",
        "-XMP-GPano:LargestValidInteriorRectTop=6",
        "-XMP-GPano:LargestValidInteriorRectWidth=80",
        "-XMP-GPano:LargestValidInteriorRectHeight=60",
    )  # fmt: skip
    image = read_image(source)
    found = exiftool.named(encode_file(upscaled(image, 3), "jpeg"), tmp_path, "-XMP-GPano:all")
    del found["SourceFile"]
    assert found == {
        "FullPanoWidthPixels": 1200, "FullPanoHeightPixels": 600,
        "CroppedAreaImageWidthPixels": 288, "CroppedAreaImageHeightPixels": 216,
        "CroppedAreaLeftPixels": 90, "CroppedAreaTopPixels": 51, "PoseHeadingDegrees": 33,
        "LargestValidInteriorRectLeft": 15, "LargestValidInteriorRectTop": 18,
        "LargestValidInteriorRectWidth": 240, "LargestValidInteriorRectHeight": 180,
    }  # fmt: skip


@pytest.mark.parametrize("format", KEEP_EXIF)
def test_face_and_subject_are_turned_and_scaled(format, tmp_path):
    written = turned_and_doubled((CASES / "jpg-rotated-face.jpg").read_bytes(), format)
    found = exiftool.named(written, tmp_path)
    assert (found["ImageWidth"], found["ImageHeight"]) == (144, 192)
    area = [float(found[f"RegionArea{name}"]) for name in "XYWH"]
    assert area == pytest.approx([0.8, 0.25, 0.3, 0.2])
    assert found["RegionAppliedToDimensionsW"] == 144
    assert found["RegionAppliedToDimensionsH"] == 192
    # Stored at (24, 14) in 96x72; a quarter turn clockwise moves it to (72 - 14, 24).
    assert found["SubjectArea"] == "116 48 40 40"
    assert found["FocalPlaneXResolution"] == found["FocalPlaneYResolution"] == 6000
    assert found["ScaleFactor35efl"] == pytest.approx(42.6, abs=0.1)
    assert "Orientation" not in found or found["Orientation"] == 1


# Where a point at (0.25, 0.125) of the stored image is after Pillow's turn.
POINTS = {
    1: (0.25, 0.125), 2: (0.75, 0.125), 3: (0.75, 0.875), 4: (0.25, 0.875),
    5: (0.125, 0.25), 6: (0.875, 0.25), 7: (0.875, 0.75), 8: (0.125, 0.75),
}  # fmt: skip


@pytest.mark.parametrize("orientation", POINTS)
def test_all_kinds_of_regions_follow_the_pixels(orientation, tmp_path):
    """A bright spot marks the place; the regions must still lie over it."""
    pixels = np.zeros((160, 320, 3), np.uint8)
    pixels[16:24, 72:88] = 255
    target = io.BytesIO()
    PILImage.fromarray(pixels).save(target, "JPEG", quality=95)
    source = exiftool.written(
        target.getvalue(), tmp_path, "-n", f"-Orientation={orientation}",
        "-RegionInfo={AppliedToDimensions={W=320,H=160,Unit=pixel},RegionList=["
        "{Area={X=0.25,Y=0.125,W=0.05,H=0.05,Unit=normalized},Type=Face},"
        "{Area={X=80,Y=20,W=16,H=8,Unit=pixel},Type=Focus},"
        "{Area={X=80,Y=20,D=8,Unit=pixel},Type=Focus}]}",
        "-RegionInfoMP={Regions=[{Rectangle=0.225|, 0.1|, 0.05|, 0.05}]}",
        "-ImageRegion=["
        "{RegionBoundary={RbShape=rectangle,RbUnit=relative,RbX=0.225,RbY=0.1,RbW=0.05,RbH=0.05}},"
        "{RegionBoundary={RbShape=rectangle,RbUnit=pixel,RbX=72,RbY=16,RbW=16,RbH=8}},"
        "{RegionBoundary={RbShape=circle,RbUnit=relative,RbX=0.25,RbY=0.125,RbRx=0.05}},"
        "{RegionBoundary={RbShape=polygon,RbUnit=relative,RbVertices=["
        "{RbX=0.225,RbY=0.1},{RbX=0.275,RbY=0.15}]}}]",
        "-ExifIFD:SubjectArea=80 20 16 8", "-ExifIFD:SubjectLocation=80 20",
        "-XMP-exif:SubjectArea=80", "-XMP-exif:SubjectArea=20",
        "-ExifIFD:FocalPlaneXResolution=3000", "-ExifIFD:FocalPlaneYResolution=2000",
        "-XMP-exif:FocalPlaneXResolution=3000", "-XMP-exif:FocalPlaneYResolution=2000",
    )  # fmt: skip
    image = upscaled(read_image(source), 3)
    rows, columns = np.nonzero(image.pixels[..., 0] > 128)
    spot = (columns.mean() + 0.5) / image.width, (rows.mean() + 0.5) / image.height
    assert spot == pytest.approx(POINTS[orientation], abs=0.02)
    written = encode_file(image, "jpeg")
    found = exiftool.tags(written, tmp_path, "-struct")
    turned = orientation >= 5
    width, height = image.width, image.height
    x, y = POINTS[orientation]
    face, focus, circle = (entry["Area"] for entry in found["XMP-mwg-rs:RegionInfo"]["RegionList"])
    assert (face["X"], face["Y"]) == pytest.approx((x, y))
    assert (focus["X"], focus["Y"]) == pytest.approx((x * width, y * height))
    assert (focus["W"], focus["H"]) == ((24, 48) if turned else (48, 24))
    assert (circle["X"], circle["D"]) == pytest.approx((x * width, 24))
    assert found["XMP-mwg-rs:RegionInfo"]["AppliedToDimensions"]["W"] == width
    rectangle = found["XMP-MP:RegionInfoMP"]["Regions"][0]["Rectangle"]
    left, top, across, down = map(float, rectangle.split(","))
    assert (left + across / 2, top + down / 2) == pytest.approx((x, y))
    relative, absolute, round_one, polygon = (
        entry["RegionBoundary"] for entry in found["XMP-iptcExt:ImageRegion"]
    )
    assert relative["RbX"] + relative["RbW"] / 2 == pytest.approx(x)
    assert relative["RbY"] + relative["RbH"] / 2 == pytest.approx(y)
    assert absolute["RbX"] + absolute["RbW"] / 2 == pytest.approx(x * width)
    assert absolute["RbY"] + absolute["RbH"] / 2 == pytest.approx(y * height)
    assert round_one["RbRx"] * width == pytest.approx(0.05 * 320 * 3)
    assert np.mean([vertex["RbX"] for vertex in polygon["RbVertices"]]) == pytest.approx(x)
    size = "24 48" if turned else "48 24"
    place = f"{round(x * width)} {round(y * height)}"
    assert found["ExifIFD:SubjectArea"] == f"{place} {size}"
    assert found["ExifIFD:SubjectLocation"] == place
    assert found["XMP-exif:SubjectArea"] == [round(x * width), round(y * height)]
    focal = [6000, 9000] if turned else [9000, 6000]
    for group in ("ExifIFD", "XMP-exif"):
        assert [found[f"{group}:FocalPlane{side}Resolution"] for side in "XY"] == focal


def test_regions_of_the_upright_image_are_not_turned_again(tmp_path):
    source = exiftool.written(
        jpeg(), tmp_path, "-n", "-Orientation=6",
        "-RegionInfo={AppliedToDimensions={W=72,H=96,Unit=pixel},RegionList=["
        "{Area={X=0.25,Y=0.125,W=0.05,H=0.05,Unit=normalized},Type=Face}]}",
    )  # fmt: skip
    found = exiftool.named(turned_and_doubled(source), tmp_path)
    assert (found["RegionAreaX"], found["RegionAreaY"]) == (0.25, 0.125)
    assert (found["RegionAppliedToDimensionsW"], found["RegionAppliedToDimensionsH"]) == (144, 192)


def test_a_subject_beyond_16_bits_is_stored_in_32(tmp_path):
    source = exiftool.written(jpeg(), tmp_path, "-n", "-ExifIFD:SubjectArea=65000 20 30")
    found = exiftool.named(turned_and_doubled(source), tmp_path)
    assert found["SubjectArea"] == "130000 40 60"


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a tiff:Orientation="6">&b;</a>',
        b'<a tiff:Orientation="6"',
        b'<a tiff:Orientation="6">\xff</a>',
        b'<a tiff:Orientation="6"/>' * 250_000,
        b"<a>" * 60_000,
        b"<a>" * 300 + b"</a>" * 300,
    ],
)
def test_hostile_packets_are_rejected(packet):
    with pytest.raises(ValueError):
        XmpPacket(packet)


def test_only_changed_values_differ_in_a_packet():
    data = (CASES / "jpg-rotated-face.jpg").read_bytes()
    before = PILImage.open(CASES / "jpg-rotated-face.jpg").info["xmp"]
    after = read_image(data).metadata.xmp
    lines = list(zip(before.splitlines(), after.splitlines(), strict=True))
    changed = [new.strip() for old, new in lines if old != new]
    assert changed == [
        b"<stDim:h>96</stDim:h>", b"<stDim:w>72</stDim:w>", b"<stArea:h>0.2</stArea:h>",
        b"<stArea:w>0.3</stArea:w>", b"<stArea:x>0.8</stArea:x>", b"<stArea:y>0.25</stArea:y>",
    ]  # fmt: skip


@pytest.mark.parametrize(("orientation", "point"), POINTS.items())
def test_regions_of_heic_follow_the_turn_of_the_container(orientation, point, tmp_path):
    """libheif turns the pixels; the regions refer to the image before that."""
    pillow_heif = pytest.importorskip("pillow_heif")
    block = PILImage.Exif()
    block[0x0112] = orientation
    pillow_heif.register_heif_opener()
    target = io.BytesIO()
    PILImage.new("RGB", (320, 160)).save(target, "HEIF", exif=block.tobytes())
    source = exiftool.written(
        target.getvalue(), tmp_path, "-n",
        "-RegionInfo={AppliedToDimensions={W=320,H=160,Unit=pixel},RegionList=["
        "{Area={X=0.25,Y=0.125,W=0.05,H=0.05,Unit=normalized},Type=Face}]}",
    )  # fmt: skip
    image = read_image(source)
    assert (image.width > image.height) == (orientation < 5)
    found = exiftool.named(encode_file(image, "jpeg"), tmp_path)
    assert (found["RegionAreaX"], found["RegionAreaY"]) == pytest.approx(point)
    assert found["RegionAppliedToDimensionsW"] == image.width
