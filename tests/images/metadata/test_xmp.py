from __future__ import annotations

from upscale.images.metadata import xmp


def test_orientation_is_reset_as_attribute_and_as_element():
    for packet in (b'<a tiff:Orientation="6"/>', b"<tiff:Orientation>6</tiff:Orientation>"):
        reset = xmp.reset_orientation(packet)
        assert reset == packet.replace(b"6", b"1")
    untouched = b'<a exif:Orientation="6" tiff:Orientation="60"/>'
    assert xmp.reset_orientation(untouched) == untouched


def test_size_is_replaced_as_attribute_and_as_element():
    packet = b'<a exif:PixelXDimension="60"/><exif:PixelYDimension>40</exif:PixelYDimension>'
    resized = b'<a exif:PixelXDimension="240"/><exif:PixelYDimension>160</exif:PixelYDimension>'
    assert xmp.resized(packet, 240, 160) == resized
