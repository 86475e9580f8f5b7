from __future__ import annotations

from pathlib import Path

import pytest

from upscale.errors import OutputError
from upscale.images import can_hold, format_of, is_image_name, suffix_of
from upscale.images.foreign_kinds import foreign_kind
from upscale.images.formats import sniff


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (".jpg", "jpeg"),
        ("jpg", "jpeg"),
        ("JPEG", "jpeg"),
        ("my.holiday.Tif", "tiff"),
        ("tiff", "tiff"),
        ("png", "png"),
        (".webp", "webp"),
        ("bmp", "bmp"),
    ],
)
def test_format_of_accepts_names_suffixes_and_file_names(text, name):
    assert format_of(text) == name


@pytest.mark.parametrize("text", ["", ".", "jp2", "photo", "a\nb.xyz", "photo.jpg.txt"])
def test_format_of_rejects_others_on_one_line(text):
    with pytest.raises(OutputError) as caught:
        format_of(text)
    assert "\n" not in str(caught.value)


def test_suffix_of_a_format_belongs_to_the_format():
    for name in ("jpeg", "png", "webp", "tiff", "bmp"):
        assert suffix_of(name).startswith(".")
        assert format_of(suffix_of(name)) == name


def test_image_names_are_recognised_by_suffix_in_any_case():
    assert is_image_name(Path("a/b.JPG")) and is_image_name(Path("x.y.webp"))
    assert not any(is_image_name(Path(name)) for name in ("png", "a.txt", ".png", "a.png.part"))


def test_sniff_detects_formats_by_content():
    assert sniff(b"\x89PNG\r\n\x1a\n....") == "png"
    assert sniff(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "webp"
    assert sniff(b"RIFF\x00\x00\x00\x00WAVEfmt ") is None
    assert sniff(b"") is None
    assert sniff(b"P6\n3 3 255\n") == "pnm" and sniff(b"P6x") is None
    assert sniff(b"\0\0\0\x1cftypavis") == "avif" and sniff(b"\0\0\0\x1cftypheic") == "heic"
    assert sniff(b"\0\0\0\x1cftypisom") is None
    assert foreign_kind(b"\0\0\0\x1cftypisom").problem == "is a video"


def hold(name, *, alpha=False, depth=8, width=100, height=100):
    return can_hold(name, alpha=alpha, depth=depth, width=width, height=height)


def test_only_jpeg_and_bmp_cannot_hold_alpha():
    refusing = {n for n in ("jpeg", "png", "webp", "tiff", "bmp") if hold(n, alpha=True)}
    assert refusing == {"jpeg", "bmp"}


def test_sides_are_limited_where_the_format_says_so():
    assert hold("webp", width=16383) is None
    assert "16383" in (hold("webp", height=16384) or "")
    assert hold("jpeg", width=65500) is None
    assert "65500" in (hold("jpeg", width=65501) or "")
    assert hold("png", width=100_000, height=2) is None
    assert "4 GB" in (hold("bmp", width=50_000, height=50_000) or "")


def test_depth_is_rounded_not_rejected_unless_there_is_no_such_depth():
    assert hold("jpeg", depth=16) is None
    assert hold("png", depth=12) is not None


def test_unknown_formats_are_an_output_error():
    with pytest.raises(OutputError):
        hold("psd")
