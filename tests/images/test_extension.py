"""A format is added by one module from outside the package."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.images.toy_format import CODEC
from upscale.cli.app import run
from upscale.cli.session import Session
from upscale.errors import ImageError, OutputError
from upscale.images import (
    Image,
    format_of,
    is_image_name,
    losses,
    read_file,
    read_size,
    sniff,
    suffix_of,
    write_file,
)
from upscale.images.codecs.registry import codecs, register, unregister

NETWORK = "realesr-animevideov3"


@pytest.fixture
def toy() -> Iterator[None]:
    register(CODEC)
    yield
    unregister("toy")


def upscale(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process."""
    stderr = io.StringIO()
    stdout = io.TextIOWrapper(io.BytesIO())
    session = Session(io.BytesIO(), stdout, stderr, {"UPSCALE_CONFIG": ""})
    return run(arguments, session), stderr.getvalue()


@pytest.mark.usefixtures("toy")
def test_registered_format_is_written_detected_and_read(noise, tmp_path):
    image, path = noise(), tmp_path / "without a suffix"
    write_file(image, path, format="toy")
    assert path.read_bytes().startswith(b"TOY 53 37 3\n")
    assert sniff(path.read_bytes()[:64]) == "toy"
    back = read_file(path)
    assert isinstance(back, Image) and np.array_equal(back.pixels, image.pixels)
    assert back.origin.format == "toy" and read_size(path) == (53, 37)


@pytest.mark.usefixtures("toy")
def test_registered_format_has_suffixes_limits_and_losses(noise, tmp_path):
    assert format_of("photo.TOYTEXT") == "toy" and suffix_of("toy") == ".toy"
    assert is_image_name(Path("a.toy"))
    assert losses(noise("uint16"), "toy") == ("16-bit samples were rounded to the 8 bits of Toy",)
    with pytest.raises(OutputError, match="Toy cannot hold transparency"):
        write_file(noise(alpha=True), tmp_path / "a.toy", format="toy")
    with pytest.raises(ImageError, match="is cut off"):
        read_file(b"TOY 2 2 3\n1 2 3")


@pytest.mark.usefixtures("toy")
def test_command_line_reads_and_writes_a_registered_format(noise, tmp_path):
    source, result = tmp_path / "small.toy", tmp_path / "large.toy"
    write_file(noise(size=(6, 5)), source, format="toy")
    code, messages = upscale(str(source), "-o", f"{tmp_path}/png/", "-f", "png", "-n", NETWORK)
    assert code == 0, messages
    (png,) = (tmp_path / "png").iterdir()
    assert read_size(png) == (24, 20)
    code, messages = upscale(str(source), "-o", str(result), "--format", "toy", "-n", NETWORK)
    assert code == 0, messages
    assert result.read_bytes().startswith(b"TOY 24 20 3\n")
    assert np.array_equal(read_file(result).pixels, read_file(png).pixels)


def test_unregistered_format_is_unknown_again(noise, tmp_path):
    register(CODEC)
    unregister("toy")
    assert sniff(b"TOY 1 1 1\n0") is None and not is_image_name(Path("a.toy"))
    with pytest.raises(OutputError, match="'toy' is not an image format that can be written"):
        write_file(noise(), tmp_path / "a.toy", format="toy")


def test_unusable_codecs_are_rejected():
    with pytest.raises(ValueError, match="traits and encode"):
        register(replace(CODEC, encode=None))
    assert "jpeg" in codecs()
    with pytest.raises(ValueError, match=r"\.jpg is a suffix of jpeg"):
        register(replace(CODEC, suffixes=("toy", "jpg")))
    assert "toy" not in codecs()


def test_formats_are_listed_by_rank_and_read_only_formats_last():
    writable = [name for name, codec in codecs().items() if codec.traits]
    assert writable == [
        "jpeg",
        "png",
        "webp",
        "tiff",
        "bmp",
        "avif",
        "gif",
        "heic",
        "jxl",
        "dds",
        "tga",
        "exr",
        "hdr",
    ]
    assert list(codecs())[: len(writable)] == writable
