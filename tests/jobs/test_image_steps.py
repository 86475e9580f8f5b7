from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile

from upscale.errors import DamagedImageError, OutputError
from upscale.images import (
    Frame,
    Image,
    ImageSequence,
    Metadata,
    encode_file,
    read_file,
    read_image,
)
from upscale.jobs.image import ImageJob
from upscale.jobs.image_steps import check, damage_of, load, store, upscale
from upscale.options import OutputOptions, RunOptions

FULL = Metadata(exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0", xmp=b"<x/>", comment="mine", dpi=(90, 90))


def image(value=7, alpha=None, dtype=np.uint8, metadata=FULL):
    plane = None if alpha is None else np.full((3, 4), alpha, dtype)
    return Image(np.full((3, 4, 3), value, dtype), plane, metadata)


def animation(*values):
    frames = [Frame(image(value), Fraction(1, 10)) for value in values]
    return ImageSequence(lambda: iter(frames), len(values), 0, True, "png")


def pages(*values):
    frames = [Frame(image(value)) for value in values]
    return ImageSequence(lambda: iter(frames), len(values), 1, False, "tiff")


def job(format="png", source=b"", target=None):
    return ImageJob("a.png", source, target, format, (4, 3), (8, 6), "net")


@pytest.mark.parametrize(
    ("content", "format", "reason"),
    [
        (image(alpha=9), "jpeg", r"a\.png.*transparency.*-f png"),
        (animation(1, 2), "jpeg", r"a\.png.*an animation.*-f png"),
        (animation(1, 2), "tiff", "an animation"),
        (pages(1, 2), "png", "pages.*-f tiff"),
        (image(metadata=Metadata(cicp=(9, 16))), "webp", "colour space.*-f png"),
    ],
)
def test_unsupported_content_is_rejected_before_the_computation(content, format, reason):
    with pytest.raises(OutputError, match=reason):
        check(content, job(format), OutputOptions())


def test_supported_content_is_accepted():
    for content, format in [
        (image(), "jpeg"),
        (image(alpha=9), "webp"),
        (animation(1, 2), "png"),
        (pages(1, 2), "tiff"),
        (image(metadata=Metadata(cicp=(9, 16))), "png"),
    ]:
        check(content, job(format), OutputOptions())


def test_lossless_is_rejected_for_formats_without_it():
    with pytest.raises(OutputError, match="JPEG"):
        check(image(), job("jpeg"), OutputOptions(lossless=True))
    check(image(), job("webp"), OutputOptions(lossless=True))


@pytest.mark.parametrize(
    ("encoded", "format"),
    [
        (encode_file(image(), "png"), "png"),
        (encode_file(pages(1, 2, 1), "tiff"), "tiff"),
    ],
)
def test_images_and_sequences_are_stored(encoded, format, nearest, tmp_path):
    one = job(format, encoded, tmp_path / "new" / f"out.{format}")
    content = load(one, RunOptions())
    large, report = upscale(content, one, nearest())
    assert report.model == "nearest"
    store(large, one, OutputOptions(), None)
    back = read_file(one.target)
    if isinstance(back, Image):
        assert back.pixels.shape == (6, 8, 3)
    else:
        assert [int(f.image.pixels.max()) for f in back.frames()] == [1, 2, 1]
        assert all(f.image.pixels.shape == (6, 8, 3) for f in back.frames())
    sent = io.BytesIO()
    store(large, ImageJob("a", b"", None, format, (4, 3), (8, 6), "net"), OutputOptions(), sent)
    assert sent.getvalue() == one.target.read_bytes()


def test_conversion_losses_are_noted(tmp_path):
    deep = image(dtype=np.uint16)
    notes = store(deep, job("jpeg", target=tmp_path / "a.jpg"), OutputOptions(), None)
    assert any("16-bit" in note for note in notes)
    notes = store(deep, job("webp", target=tmp_path / "a.webp"), OutputOptions(), None)
    assert any("comment" in note for note in notes)
    assert store(deep, job("png", target=tmp_path / "a.png"), OutputOptions(), None) == ()


def test_stripping_keeps_resolution_and_colours(tmp_path):
    target = tmp_path / "a.png"
    assert store(image(), job(target=target), OutputOptions(strip_metadata=True), None) == ()
    metadata = read_image(target).metadata
    assert (metadata.exif, metadata.xmp, metadata.comment) == (None, None, None)
    assert metadata.dpi == pytest.approx((90, 90), abs=0.02)


def test_number_of_pixels_is_limited(tmp_path):
    data = encode_file(image(), "png")
    assert isinstance(load(job(source=data), RunOptions(max_pixels=12)), Image)
    with pytest.raises(Exception, match="limit"):
        load(job(source=data), RunOptions(max_pixels=11))


def test_existing_file_is_kept_without_overwrite(tmp_path):
    target = Path(tmp_path / "a.png")
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        store(image(), job(target=target), OutputOptions(), None)
    assert target.read_bytes() == b"precious"
    store(image(), job(target=target), OutputOptions(overwrite=True), None)
    assert read_image(target).width == 4


ADVICE = "use an undamaged copy, or pass --keep-damaged to save what can be read"


def test_error_of_a_damaged_image_names_the_stream_and_the_option():
    cut = encode_file(Image(np.zeros((64, 64, 3), np.uint8)), "jpeg")[:-40]
    with pytest.raises(DamagedImageError) as caught:
        load(job("jpeg", cut), RunOptions())
    assert str(caught.value) == f"a.png: is cut off; {ADVICE}"
    content = load(job("jpeg", cut), RunOptions(keep_damaged=True))
    (clause,) = damage_of(content)
    assert clause.endswith("rows are missing")


def test_error_without_anything_to_keep_has_no_such_advice():
    cut = encode_file(image(), "webp")[:-10]
    with pytest.raises(DamagedImageError) as caught:
        load(job("webp", cut), RunOptions())
    assert str(caught.value) == "a.png: is cut off; use an undamaged copy"


def test_damaged_page_is_left_out_if_that_is_allowed(nearest):
    content = bytearray(encode_file(pages(10, 20, 30), "tiff"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        (start,) = file.pages[1].dataoffsets
    content[start + 2 : start + 10] = bytes(8)
    one = job("tiff", bytes(content))
    strict = load(one, RunOptions())
    with pytest.raises(DamagedImageError) as caught:
        upscale(strict, one, nearest())
    assert str(caught.value) == f"a.png: is damaged; {ADVICE}"
    large, _ = upscale(load(one, RunOptions(keep_damaged=True)), one, nearest())
    assert damage_of(large) == ("page 2 of 3 was left out",)
    assert [int(frame.image.pixels.max()) for frame in large.frames()] == [10, 30]
