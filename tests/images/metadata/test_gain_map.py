"""Gain maps, videos and other images behind a JPEG: rewritten, or left out with their claims.

The files are assembled from Pillow's JPEGs by `struct`; ExifTool and Pillow read the results.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.images import exiftool
from upscale.images import encode_file, losses, read_image, stripped
from upscale.images.codecs.iso_boxes import left_out
from upscale.images.codecs.jpeg_parts import parts_of

CASES = Path(__file__).parents[2] / "data" / "images" / "cases"
ISO = b"urn:iso:std:iso:ts:21496:-1\0"
APPLE_GAIN_MAP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/" '
    b'apdi:AuxiliaryImageType="urn:com:apple:photo:2020:aux:hdrgainmap"/></rdf:RDF></x:xmpmeta>'
)
VIDEO = struct.pack(">I4s4sI", 24, b"ftyp", b"mp42", 0) + b"mp42isom" + bytes(200)


def doubled(image):
    return replace(image, pixels=image.pixels.repeat(2, 0).repeat(2, 1))


def segment(kind, body):
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def xmp_segment(packet):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def packet(properties, inner=b""):
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
        b'rdf-syntax-ns#"><rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
        b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="a harbour" '
        + properties + b">" + inner + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )  # fmt: skip


def directory(*items):
    entries = b"".join(
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="%s" '
        b'Item:Mime="image/jpeg" Item:Length="%d" Item:Padding="0"/></rdf:li>' % item
        for item in items
    )
    return b"<Container:Directory><rdf:Seq>" + entries + b"</rdf:Seq></Container:Directory>"


def jpeg(pixels, *segments):
    target = io.BytesIO()
    PILImage.fromarray(pixels).save(target, "JPEG", quality=95)
    plain = target.getvalue()
    return plain[:2] + b"".join(segments) + plain[2:]


def picture(height=72, width=96):
    down, across = np.mgrid[0:height, 0:width]
    return np.dstack([across * 2, down * 3, 0 * down]).astype(np.uint8)


def map_pixels():
    """A gain map that is bright in its upper left quarter."""
    pixels = np.zeros((24, 32), np.uint8)
    pixels[:12, :16] = 200
    return pixels


def exif_segment(orientation):
    block = PILImage.Exif()
    block[0x0112] = orientation
    return segment(0xE1, block.tobytes())


def ultra_hdr(orientation=1, *extra):
    gain_map = jpeg(
        map_pixels(), xmp_segment(packet(b'hdrgm:Version="1.0" hdrgm:GainMapMax="2.3"'))
    )
    claims = packet(b'hdrgm:Version="1.0"', directory((b"Primary", 0), (b"GainMap", len(gain_map))))
    return jpeg(picture(), exif_segment(orientation), xmp_segment(claims), *extra) + gain_map


def second_image(data, folder):
    """What ExifTool finds at the place that the index of the file states."""
    return exiftool.binary(data, folder, "MPImage2")


def test_gain_map_of_a_jpeg_is_kept_with_right_lengths(tmp_path):
    source = (CASES / "jpg-ultrahdr.jpg").read_bytes()
    image = read_image(source)
    assert image.origin.notes == () and losses(image, "jpeg") == ()
    written = encode_file(doubled(image), "jpeg")
    found = exiftool.named(written, tmp_path)
    assert (found["ImageWidth"], found["ImageHeight"]) == (192, 144)
    assert found["NumberOfImages"] == 2
    kept = second_image(written, tmp_path)
    assert kept == second_image(source, tmp_path)
    assert len(kept) == found["DirectoryItemLength"] == 1627
    assert written.endswith(kept)
    assert exiftool.named(kept, tmp_path)["GainMapMax"] == 2.3
    warnings = exiftool.warnings(written, tmp_path)
    assert "MPF" not in warnings and "Trailer" not in warnings
    assert read_image(written).metadata.gain_map.data == kept


@pytest.mark.parametrize("orientation", range(1, 9))
def test_gain_map_is_turned_like_the_image(orientation, tmp_path):
    image = read_image(ultra_hdr(orientation))
    written = encode_file(doubled(image), "jpeg")
    second = second_image(written, tmp_path)
    length = exiftool.named(written, tmp_path, "-XMP:all")["DirectoryItemLength"]
    assert len(second) == length
    expected = PILImage.fromarray(map_pixels())
    for turn in {
        1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2],
    }[orientation]:  # fmt: skip
        expected = expected.transpose(PILImage.Transpose(turn))
    shown = PILImage.open(io.BytesIO(second))
    assert shown.size == expected.size
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).max() <= 12
    assert exiftool.named(second, tmp_path)["GainMapMax"] == 2.3


def test_gain_map_of_iso_21496_is_kept_without_xmp(tmp_path):
    gain_map = jpeg(map_pixels(), segment(0xE2, ISO + bytes(range(60))))
    image = read_image(jpeg(picture(), segment(0xE2, ISO + bytes(4))) + gain_map)
    written = encode_file(doubled(image), "jpeg")
    assert second_image(written, tmp_path) == gain_map
    assert segment(0xE2, ISO + bytes(4)) in written[: -len(gain_map)]


def apple_exif(with_headroom):
    """An EXIF segment with an Apple maker note of three or five tags; built by struct."""
    tags = [(0x01, 9, 1, 16), (0x0A, 9, 1, 2)]
    tags += [(0x21, 10, 1, None), (0x30, 10, 1, None)] if with_headroom else []
    tags += [(0x4E, 9, 1, 7)]
    directory_bytes = 14 + 2 + 12 * len(tags) + 4
    values, entries = b"", b""
    for tag, kind, count, value in sorted(tags):
        at = directory_bytes + len(values)
        values += b"" if value is not None else struct.pack(">ii", 3, 2)
        entries += struct.pack(">HHII", tag, kind, count, at if value is None else value)
    note = b"Apple iOS\0\0\1MM" + struct.pack(">H", len(tags)) + entries + bytes(4) + values
    block = b"MM\0*\0\0\0\x08" + struct.pack(
        ">HHHIIHHIII", 2, 0x010F, 2, 6, 200, 0x8769, 4, 1, 38, 0
    )
    block += struct.pack(">HHHIII", 1, 0x927C, 7, len(note), 220, 0)
    block = block.ljust(200, b"\0") + b"Apple\0"
    return segment(0xE1, b"Exif\0\0" + block.ljust(220, b"\0") + note)


@pytest.mark.parametrize("format", ["jpeg", "heic"])
def test_apple_gain_map_is_kept_or_its_headroom_is_removed(format, tmp_path):
    gain_map = jpeg(map_pixels(), xmp_segment(APPLE_GAIN_MAP))
    source = jpeg(picture(), apple_exif(True)) + gain_map
    assert exiftool.named(source, tmp_path)["HDRHeadroom"] == 1.5
    image = read_image(source)
    written = encode_file(doubled(image), format)
    found = exiftool.named(written, tmp_path)
    assert (found["MakerNoteVersion"], found["HDRImageType"]) == (16, 2)
    if format == "jpeg":
        assert found["HDRHeadroom"] == found["HDRGain"] == 1.5
        assert second_image(written, tmp_path) == gain_map
    else:
        assert losses(image, format) == ("HEIC has no place for its gain map",)
        assert "HDRHeadroom" not in found and "HDRGain" not in found
    assert exiftool.tags(written, tmp_path, "-u").get("Apple:Apple_0x004e") == 7


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "avif", "heic", "jxl"])
def test_other_formats_drop_the_gain_map_and_what_announces_it(format, tmp_path):
    image = read_image(ultra_hdr())
    assert any("gain map" in loss for loss in losses(image, format))
    written = encode_file(doubled(image), format)
    found = exiftool.tags(written, tmp_path, "-XMP:all")
    assert found.pop("SourceFile")
    found.pop("XMP-x:XMPToolkit", None)
    assert found == {"XMP-dc:Source": "a harbour"}
    assert b"hdr-gain-map" not in written and b"GainMap" not in written


def test_stripping_removes_the_gain_map_and_what_announces_it():
    image = read_image(ultra_hdr())
    bare = replace(image, metadata=stripped(image.metadata))
    written = encode_file(doubled(bare), "jpeg")
    assert b"MPF\0" not in written and b"GainMap" not in written
    assert written.count(b"\xff\xd8\xff") == 1


def test_a_damaged_gain_map_of_a_turned_image_is_left_out_with_a_note():
    source = ultra_hdr(6)
    image = read_image(source[:-600] + bytes(598) + b"\xff\xd9")
    assert image.metadata.gain_map is None
    assert image.origin.notes == ("its gain map, which is damaged, was left out",)
    assert b"GainMap" not in encode_file(image, "jpeg")


def test_claims_without_a_gain_map_are_removed(tmp_path):
    claims = packet(b'hdrgm:Version="1.0"', directory((b"Primary", 0), (b"GainMap", 1627)))
    written = encode_file(read_image(jpeg(picture(), xmp_segment(claims))), "jpeg")
    assert exiftool.tags(written, tmp_path, "-XMP:all").keys() == {"SourceFile", "XMP-dc:Source"}


def mpo(kind):
    target = io.BytesIO()
    frames = [PILImage.fromarray(picture()), PILImage.fromarray(255 - picture())]
    frames[0].save(target, "MPO", save_all=True, append_images=frames[1:])
    data = target.getvalue()
    # Pillow writes 0 as the kind of all images but the first.
    at = data.index(b"\x02\xb0\x07\0") + 8
    base = data.index(b"MPF\0") + 4
    entry = base + struct.unpack_from("<I", data, at)[0] + 16
    return data[:entry] + struct.pack("<I", kind) + data[entry + 4 :]


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        (0x020002, "other images in it were left out"),
        (0x020003, "other images in it were left out"),
        (0, "other images in it were left out"),
        (0x010001, "its preview images were left out"),
        (0x010002, "its preview images were left out"),
    ],
)
def test_other_images_are_left_out_with_a_note(kind, note, tmp_path):
    image = read_image(mpo(kind))
    assert image.origin.notes == (note,)
    assert np.abs(image.pixels.astype(int) - picture()).max() < 20
    written = encode_file(image, "jpeg")
    assert b"MPF\0" not in written


def samsung_trailer():
    video = b"\0\0\x30\x0a" + struct.pack("<I", 16) + b"MotionPhoto_Data" + VIDEO
    head = (
        b"SEFH"
        + struct.pack("<II", 106, 1)
        + struct.pack("<HHII", 0, 0x0A30, len(video), len(video))
    )
    return video + head + struct.pack("<I", len(head)) + b"SEFT"


MOTION = {
    "micro video": (
        packet(b'GCamera:MicroVideo="1" GCamera:MicroVideoVersion="1" '
               b'GCamera:MicroVideoOffset="224" '
               b'GCamera:MicroVideoPresentationTimestampUs="500"'), VIDEO),
    "motion photo": (
        packet(b'GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" '
               b'GCamera:MotionPhotoPresentationTimestampUs="500"',
               directory((b"Primary", 0), (b"MotionPhoto", len(VIDEO)))), VIDEO),
    "samsung": (packet(b""), samsung_trailer()),
}  # fmt: skip


@pytest.mark.parametrize("format", ["jpeg", "png"])
@pytest.mark.parametrize("kind", MOTION)
def test_the_video_of_a_motion_photo_is_left_out_with_what_announces_it(kind, format, tmp_path):
    claims, trailer = MOTION[kind]
    image = read_image(jpeg(picture(), xmp_segment(claims)) + trailer)
    assert image.origin.notes == ("its video was left out",)
    written = encode_file(image, format)
    found = exiftool.tags(written, tmp_path, "-XMP:all")
    found.pop("XMP-x:XMPToolkit", None)
    assert found.keys() == {"SourceFile", "XMP-dc:Source"}
    assert b"MotionPhoto" not in written and b"MicroVideo" not in written


def test_the_case_of_a_motion_photo(tmp_path):
    image = read_image(CASES / "jpg-motion.jpg")
    assert image.origin.notes == ("its video was left out",)
    found = exiftool.named(encode_file(image, "jpeg"), tmp_path, "-XMP:all")
    assert found.keys() == {"SourceFile"}


def test_a_video_beside_a_gain_map(tmp_path):
    gain_map = jpeg(map_pixels(), xmp_segment(packet(b'hdrgm:Version="1.0"')))
    claims = packet(
        b'hdrgm:Version="1.0" GCamera:MotionPhoto="1"',
        directory((b"Primary", 0), (b"GainMap", len(gain_map)), (b"MotionPhoto", len(VIDEO))),
    )
    image = read_image(jpeg(picture(), xmp_segment(claims)) + gain_map + VIDEO)
    assert image.origin.notes == ("its video was left out",)
    written = encode_file(image, "jpeg")
    assert second_image(written, tmp_path) == gain_map
    found = exiftool.named(written, tmp_path, "-XMP:all")
    assert found["DirectoryItemSemantic"] == ["Primary", "GainMap"] or (
        b"MotionPhoto" not in written and found["DirectoryItemLength"] == len(gain_map)
    )


def test_unknown_data_behind_the_image_are_reported_but_padding_is_not():
    plain = jpeg(picture())
    assert read_image(plain + bytes(4000)).origin.notes == ()
    assert read_image(plain + b"\xff\xd9" * 20).origin.notes == ()
    assert read_image(plain + b"PK\3\4 an archive of notes").origin.notes == (
        "data behind the image were left out",
    )


AVIF_WITH_GAIN_MAP = CASES.parent / "libavif" / "colors_hdr_rec2020.avif"


def test_the_gain_map_of_an_avif_is_left_out_with_a_note(tmp_path):
    image = read_image(AVIF_WITH_GAIN_MAP)
    assert image.origin.notes == ("its gain map was left out",)
    assert b"hdr-gain-map" not in encode_file(image, "png")


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        (b"urn:com:apple:photo:2020:aux:hdrgainmap", "its gain map was left out"),
        (b"urn:mpeg:hevc:2015:auxid:2", "its depth map was left out"),
        (b"urn:com:apple:photo:2018:aux:portraiteffectsmatte", "its mattes were left out"),
        (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", None),
    ],
)
def test_auxiliary_images_of_heic_and_avif_are_reported_by_kind(kind, note):
    def box(name, body):
        return struct.pack(">I4s", 8 + len(body), name) + body

    properties = box(b"ipco", box(b"auxC", bytes(4) + kind + b"\0"))
    data = box(b"ftyp", b"heic") + box(b"meta", bytes(4) + box(b"iprp", properties))
    assert left_out(data) == ([] if note is None else [note])
    assert left_out(data + box(b"mpvd", VIDEO))[-1] == "its video was left out"


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\2", b"\0"])
def test_hostile_data_behind_the_image_take_linear_time(filler):
    """A quadratic search would take hours."""
    data = jpeg(picture())[:-2] + filler * (3_000_000 // len(filler))
    assert parts_of(data).gain_map is None
    assert parts_of(jpeg(picture()) + filler * (3_000_000 // len(filler))).gain_map is None
