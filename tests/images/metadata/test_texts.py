"""Texts of PNG files: kept, moved to EXIF, or reported; written by struct, read by ExifTool."""

from __future__ import annotations

import io
import json
import struct
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import PngImagePlugin

from tests.images import exiftool
from upscale.images import (
    Image,
    ImageSequence,
    Metadata,
    encode_file,
    losses,
    read_file,
    read_image,
    stripped,
)
from upscale.images.metadata.fields import Text

CASE = Path(__file__).parents[2] / "data" / "images" / "cases" / "png-texts.png"
KEPT = {
    "Title": "Harbour at dawn",
    "Author": "A. Archivist",
    "Copyright": "(c) Archive",
    "Description": "Négatif n° 12",
    "Parameters": "a cat, steps: 20, seed: 42",
    "ModifyDate": "2020:01:02 03:04:05",
}
IN_EXIF = {
    "XPTitle": "Harbour at dawn",
    "Artist": "A. Archivist",
    "Copyright": "(c) Archive",
    "ImageDescription": "Négatif n° 12",
    "UserComment": "a cat, steps: 20, seed: 42",
    "ModifyDate": "2020:01:02 03:04:05",
}


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks):
    """A small PNG with chunks behind its IHDR."""
    target = io.BytesIO()
    PILImage.new("RGB", (8, 6), (200, 100, 50)).save(target, "PNG")
    plain = target.getvalue()
    return plain[:33] + b"".join(chunks) + plain[33:]


def test_texts_of_a_png_are_kept_in_a_png(tmp_path):
    image = read_image(CASE)
    assert losses(image, "png") == ()
    found = exiftool.named(encode_file(image, "png"), tmp_path, "-PNG:all")
    assert {tag: found.get(tag) for tag in KEPT} == KEPT


@pytest.mark.parametrize("format", ["jpeg", "webp", "tiff", "avif", "heic", "jxl"])
def test_texts_of_a_png_are_moved_to_exif(format, tmp_path):
    image = read_image(CASE)
    assert "text" not in " ".join(losses(image, format))
    found = exiftool.named(encode_file(image, format), tmp_path, "-EXIF:all")
    assert {tag: found.get(tag) for tag in IN_EXIF} == IN_EXIF


@pytest.mark.parametrize("format", ["bmp", "gif"])
def test_texts_without_a_place_are_reported(format):
    message = " ".join(losses(read_image(CASE), format))
    for keyword in ("Title", "Author", "Copyright", "parameters", "Description"):
        assert f"text {keyword}" in message
    assert "time of modification" in message


def test_unknown_texts_are_kept_in_a_png_and_reported_elsewhere(tmp_path):
    data = png(chunk(b"tEXt", b"Lens\0 50 mm"), chunk(b"iTXt", "Ort\0\0\0de\0Ort\0Köln".encode()))
    image = read_image(data)
    assert image.metadata.texts == (Text("Lens", " 50 mm"), Text("Ort", "Köln", "de", "Ort"))
    assert losses(image, "jpeg") == ("JPEG has no place for its text Lens, text Ort",)
    again = PILImage.open(io.BytesIO(encode_file(image, "png")))
    again.load()
    assert again.text == {"Lens": " 50 mm", "Ort": "Köln"}
    assert (again.text["Ort"].lang, again.text["Ort"].tkey) == ("de", "Ort")


def test_keywords_cannot_control_the_terminal():
    image = read_image(png(chunk(b"tEXt", b"a\x1b[31m\0text")))
    assert losses(image, "bmp") == (r"BMP has no place for its text a\x1b[31m",)


def test_workflow_of_comfyui_is_stored_in_exif_as_comfyui_does(tmp_path):
    workflow, prompt = json.dumps({"nodes": [1, "é"]}), json.dumps({"3": {"inputs": {}}})
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", prompt)
    info.add_text("workflow", workflow)
    target = io.BytesIO()
    PILImage.new("RGB", (8, 6)).save(target, "PNG", pnginfo=info)
    image = read_image(target.getvalue())
    kept = PILImage.open(io.BytesIO(encode_file(image, "png")))
    kept.load()
    assert kept.text == {"prompt": prompt, "workflow": workflow}
    found = PILImage.open(io.BytesIO(encode_file(image, "webp"))).getexif()
    assert (found[0x0110], found[0x010F]) == (f"prompt:{prompt}", f"workflow:{workflow}")


def test_tags_that_exif_has_are_not_replaced(exif_block, tmp_path):
    block = exif_block(1)
    texts = (Text("workflow", "{}"), Text("Author", "Somebody"), Text("Title", "Ahoi ☃"))
    image = Image(np.zeros((6, 8, 3), np.uint8), None, Metadata(exif=block, texts=texts))
    assert losses(image, "jpeg") == ("JPEG has no place for its text workflow",)
    found = exiftool.named(encode_file(image, "jpeg"), tmp_path)
    assert (found["Make"], found["Artist"], found["XPTitle"]) == (
        "Some maker", "Somebody", "Ahoi ☃"
    )  # fmt: skip
    assert found["ExposureTime"] == 0.5


def test_a_text_that_is_too_long_for_a_jpeg_does_not_remove_the_others(tmp_path):
    long = "x" * 70_000
    image = Image(
        np.zeros((6, 8, 3), np.uint8), None,
        Metadata(texts=(Text("parameters", long), Text("Author", "Somebody"))),
    )  # fmt: skip
    assert losses(image, "jpeg") == ("JPEG has no place for its text parameters",)
    assert exiftool.named(encode_file(image, "jpeg"), tmp_path)["Artist"] == "Somebody"
    assert losses(image, "webp") == ()
    assert exiftool.named(encode_file(image, "webp"), tmp_path)["UserComment"] == long


def test_stripping_removes_texts_and_times():
    metadata = Metadata(texts=(Text("Author", "Somebody"),), modified=datetime(2020, 1, 2))
    assert stripped(metadata) == Metadata()


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "bombs", "many"])
def test_texts_that_would_fill_the_memory_are_left_out_with_a_note(kind):
    bomb = zlib.compress(bytes([65]) * (80 * 1024 * 1024), 9)
    chunks = {
        "zTXt": [chunk(b"zTXt", b"Title\0\0" + bomb)],
        "iTXt": [chunk(b"iTXt", b"Title\0\1\0\0\0" + bomb)],
        "bombs": [chunk(b"zTXt", b"Title\0\0" + bomb)] * 200,
        "many": [chunk(b"tEXt", b"Title\0x")] * 5000,
    }[kind]
    image = read_image(png(chunk(b"tEXt", b"Author\0A"), *chunks))
    assert image.metadata.texts[0] == Text("Author", "A")
    assert len(image.metadata.texts) <= 1000
    assert image.origin.notes == (
        "some of its metadata, which is extremely large, was left out",
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        (b"iTXt", b"Title"), (b"iTXt", b"Title\0\0\0"), (b"zTXt", b"Title\0\0nonsense"),
        (b"tIME", b"123"), (b"tIME", b"\x07\xe4\x0d\x01\x01\x01\x01"), (b"tEXt", b"\0nothing"),
    ],
)  # fmt: skip
def test_damaged_texts_are_left_out(body):
    assert read_image(png(chunk(*body))).metadata == Metadata()


def test_the_texts_of_an_animation_are_kept(tmp_path):
    frames = [PILImage.new("RGB", (8, 6), (shade, 0, 0)) for shade in (0, 90, 200)]
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Traffic light")
    target = io.BytesIO()
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:], pnginfo=info)
    sequence = read_file(target.getvalue())
    assert isinstance(sequence, ImageSequence)
    written = encode_file(sequence, "png")
    assert exiftool.named(written, tmp_path)["Title"] == "Traffic light"


def test_words_of_windows_ratings_and_positions_are_kept_in_tiff(tmp_path):
    target = io.BytesIO()
    PILImage.new("RGB", (8, 6)).save(target, "TIFF")
    source = exiftool.written(
        target.getvalue(), tmp_path, "-XPKeywords=sea; dawn", "-XPComment=é", "-IFD0:Rating=4",
        "-IFD0:DocumentName=Roll 3", "-IFD0:HostComputer=Abacus", "-IFD0:PageName=12 a",
        "-IFD0:XPosition=3.9", "-IFD0:YPosition=0.52",
    )  # fmt: skip
    wanted = {
        "XPKeywords": "sea; dawn", "XPComment": "é", "Rating": 4, "DocumentName": "Roll 3",
        "HostComputer": "Abacus", "PageName": "12 a",
        "XPosition": 3.9, "YPosition": 0.52,
    }  # fmt: skip
    image = read_image(source)
    for format in ("tiff", "jpeg"):
        found = exiftool.named(encode_file(image, format), tmp_path, "-EXIF:all")
        assert {tag: found.get(tag) for tag in wanted} == wanted
