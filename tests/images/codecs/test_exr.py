"""OpenEXR, against the package of the OpenEXR project."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import numpy as np
import pytest

from upscale.errors import DependencyError, ImageError
from upscale.images import Image, encode_file, losses, read_image
from upscale.images.codecs import base
from upscale.images.codecs.exr import OpenExr
from upscale.images.codecs.native_messages import caught_messages
from upscale.jobs import upscale_image

OpenEXR = pytest.importorskip("OpenEXR")

REC_709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
ACES_AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)


def written(channels, **header):
    """Return the bytes of a file by the package."""
    content = io.BytesIO()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage} | header
    OpenEXR.File(header, dict(channels)).write(content)
    return content.getvalue()


def reread(content):
    """Return the planes and the header as the package reads them."""
    opened = OpenEXR.File(io.BytesIO(content), True)
    return {name: channel.pixels for name, channel in opened.channels().items()}, opened.header()


def light(*shape, dtype=np.float32):
    """Light from -0.5 to 90, evenly distributed over magnitudes."""
    values = np.random.default_rng(1).uniform(-4, np.log(90), shape)
    result = np.exp(values)
    result.flat[::7] = -0.5
    return result.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_and_float_are_kept_exactly(dtype):
    planes = {name: light(6, 9, dtype=dtype) for name in "RGB"}
    image = read_image(written(planes))
    assert np.array_equal(image.pixels, np.dstack([planes[name] for name in "RGB"]))
    assert image.pixels.dtype == np.float32
    assert image.origin.storage.is_half == (dtype == np.float16)
    assert image.origin.notes == ()
    result, header = reread(encode_file(image, "exr"))
    for name in "RGB":
        assert result[name].dtype == dtype
        assert np.array_equal(result[name], planes[name])
    assert np.allclose(header["chromaticities"], REC_709)


def test_grey_and_compression_are_kept():
    plane = light(5, 4, dtype=np.float16)
    image = read_image(written({"Y": plane}, compression=OpenEXR.PIZ_COMPRESSION))
    assert image.pixels.shape == (5, 4, 1)
    result, header = reread(encode_file(image, "exr"))
    assert list(result) == ["Y"]
    assert np.array_equal(result["Y"], plane)
    assert header["compression"] == OpenEXR.PIZ_COMPRESSION


def test_colour_is_stored_multiplied_by_alpha():
    alpha = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    straight = light(4, 5, 3)
    straight[0, 0] = 0
    planes = dict(zip("RGB", np.moveaxis(straight * alpha[..., None], 2, 0), strict=True))
    content = written({**{k: np.ascontiguousarray(v) for k, v in planes.items()}, "A": alpha})
    image = read_image(content)
    assert np.allclose(image.pixels, straight, rtol=1e-5)
    assert np.array_equal(image.alpha, alpha)
    result, _ = reread(encode_file(image, "exr"))
    for name in "RGB":
        assert np.allclose(result[name], planes[name], rtol=1e-5)
    assert np.array_equal(result["A"], alpha)


def test_what_is_left_out_is_noted():
    plane = light(4, 4)
    channels = dict.fromkeys(("R", "G", "B", "Z", "diffuse.R"), plane)
    window = (np.array([0, 0], np.int32), np.array([9, 9], np.int32))
    content = written(channels, displayWindow=window, owner="Somebody")
    assert read_image(content).origin.notes == (
        "its channels Z, diffuse.R were left out",
        "its display window was left out: all stored pixels are shown",
        "its attributes owner were left out",
    )
    glow = {"R": plane, "G": plane, "B": plane, "A": np.zeros((4, 4), np.float32)}
    assert read_image(written(glow)).origin.notes == ("light where its alpha is 0 was left out",)
    parts = [OpenEXR.Part({"name": name}, dict.fromkeys("RGB", plane)) for name in ("one", "two")]
    content = io.BytesIO()
    OpenEXR.File(parts).write(content)
    assert "parts after the first were left out" in read_image(content.getvalue()).origin.notes


def test_files_without_colours_are_named():
    with pytest.raises(ImageError, match="no channels R, G and B"):
        read_image(written({"Z": light(4, 4)}))


@pytest.mark.parametrize("length", [10, 60, 300, 400, 900])
def test_cut_files_are_an_error(length):
    content = written({name: light(16, 16) for name in "RGB"})
    with pytest.raises(ImageError, match=r"cut off|damaged"):
        read_image(content[:length])


def test_damaged_pixels_are_an_error_without_messages_of_the_package(capfd):
    content = bytearray(written({name: light(64, 64) for name in "RGB"}))
    content[500:520] = b"\xff" * 20
    with pytest.raises(ImageError, match="is damaged"):
        read_image(bytes(content))
    assert capfd.readouterr() == ("", "")


def test_messages_of_others_are_passed_on(capfd):
    with caught_messages(lambda line: b"mine" in line) as lines:
        os.write(2, b"mine\ntheirs\n")
    assert lines == [b"mine\n"]
    assert capfd.readouterr().err == "theirs\n"


def test_other_primaries_are_kept():
    planes = {name: light(4, 4) for name in "RGB"}
    image = read_image(written(planes, chromaticities=ACES_AP0))
    assert image.origin.notes == (
        "its primaries are kept in OpenEXR only; elsewhere they count as Rec. 709",
    )
    _, header = reread(encode_file(image, "exr"))
    assert np.allclose(header["chromaticities"], ACES_AP0, atol=1e-6)
    rec_2020 = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)
    image = read_image(written(planes, chromaticities=rec_2020))
    assert image.metadata.cicp == (9, 8)
    assert read_image(encode_file(image, "png")).metadata.cicp == (9, 13)


def test_integers_become_linear_light():
    levels = np.array([0, 10, 128, 188, 255], np.uint8)
    image = Image(np.repeat(levels[None, :, None], 3, 2))
    result, _ = reread(encode_file(image, "exr"))
    expected = [0, 0.003035, 0.215861, 0.502886, 1]
    assert result["R"].dtype == np.float16
    assert np.allclose(result["R"][0], expected, rtol=1e-3)
    back = read_image(encode_file(read_image(encode_file(image, "exr")), "png"))
    assert np.abs(back.pixels / 257 - image.pixels).max() < 0.1


def test_integer_formats_get_the_curve_of_srgb_and_a_note():
    image = read_image(written({name: np.full((2, 2), 0.5, np.float32) for name in "RGB"}))
    png = read_image(encode_file(image, "png"))
    assert abs(int(png.pixels[0, 0, 0]) / 65535 - 0.735357) < 1e-4
    assert png.metadata.cicp is None
    notes = losses(image, "png")
    assert "its linear light was given the curve of sRGB, and cut off at white" in notes
    assert losses(image, "exr") == ()


def test_tiff_keeps_light_with_a_profile():
    planes = {name: light(5, 5) for name in "RGB"}
    image = read_image(written(planes))
    tiff = read_image(encode_file(image, "tiff"))
    assert np.array_equal(tiff.pixels, image.pixels)
    assert tiff.metadata.icc is not None
    result, _ = reread(encode_file(tiff, "exr"))
    assert np.array_equal(result["R"], planes["R"])


def test_values_too_large_for_half_become_floats():
    plane = np.full((2, 2), 60000, np.float16)
    image = read_image(written(dict.fromkeys("RGB", plane)))
    assert reread(encode_file(image, "exr"))[0]["R"].dtype == np.float16
    brighter = Image(image.pixels * 2, metadata=image.metadata, origin=image.origin)
    result, _ = reread(encode_file(brighter, "exr"))
    assert result["R"].dtype == np.float32
    assert (result["R"] == 120000).all()


class Identity:
    """Upscaler that returns its input, and rejects what a network could not take."""

    def run(self, array, *, size=None, progress=None):
        assert array.dtype == np.float32
        assert array.min() >= 0 and array.max() <= 1
        return SimpleNamespace(pixels=array.copy(), report=None)


@pytest.mark.parametrize("dtype, error", [(np.float16, 1e-3), (np.float32, 1e-4)])
def test_light_survives_a_network(dtype, error):
    planes = {name: light(32, 32, dtype=dtype) for name in "RGB"}
    planes["R"][3, 4], planes["G"][5, 6] = np.inf, np.nan
    image = read_image(written(planes))
    large, _ = upscale_image(image, (32, 32), Identity())
    result, _ = reread(encode_file(large, "exr"))
    for name in "RGB":
        known = np.isfinite(planes[name])
        assert np.isfinite(result[name]).all()
        expected = planes[name][known].astype(float)
        assert (np.abs(result[name][known] - expected) <= error * np.abs(expected) + 1e-5).all()
    assert max(result[name].max() for name in "RGB") > 80


def test_a_missing_package_is_named(monkeypatch):
    content = written({name: light(4, 4) for name in "RGB"})

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(base.importlib, "import_module", missing)
    with pytest.raises(DependencyError, match=r"pip install 'upscale\[hdr\]'"):
        read_image(content)


def test_storage_is_that_of_the_file():
    content = written({n: light(4, 4, dtype=np.float16) for n in "RGB"}, chromaticities=REC_709)
    storage = read_image(content).origin.storage
    assert (storage.is_half, storage.compression) == (True, 3)
    assert np.allclose(storage.chromaticities, REC_709)
    assert isinstance(storage, OpenExr)
