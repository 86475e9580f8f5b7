"""`upscale.Upscaler` with everything that it takes, compared with the command line."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from upscale import Upscaler, selection
from upscale.cli.app import run
from upscale.cli.session import Session
from upscale.engine import loading
from upscale.engine.loading import Model as EngineModel
from upscale.engine.upscaler import Upscaler as Engine
from upscale.errors import ImageError, UsageError
from upscale.images import Image, Metadata, read_file, write_file
from upscale.models import SRVGGSpec
from upscale.selection.choice import CLEAN, DAMAGED, Choice

MODEL = "realesr-animevideov3"


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(MODEL, device="cpu", tile=32)


@pytest.fixture(scope="module")
def rgb():
    """Part of a photo, 48x40 pixels."""
    file = Path(__file__).parent / "data" / "photos" / "kitten.webp"
    return np.array(PilImage.open(file).convert("RGB"))[300:340, 480:528]


@pytest.fixture(scope="module")
def rgba(rgb):
    """The photo with a round, soft mask."""
    y, x = np.mgrid[:40, :48]
    alpha = np.clip(400 - (x - 24) ** 2 - (y - 20) ** 2, 0, 255).astype(np.uint8)
    return np.dstack((rgb, alpha))


@pytest.fixture
def by_command_line(tmp_path, monkeypatch):
    """Upscale a file with the program and read the output with our reader."""
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")

    def by_command_line(source, *flags, name="large.png"):
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        session = Session(io.BytesIO(), out, err, {"UPSCALE_CONFIG": ""})
        target = tmp_path / name
        arguments = [str(source), "-o", str(target), "-n", MODEL, "--device", "cpu", "-t", "32"]
        arguments += flags
        assert run(arguments, session) == 0, err.buffer.getvalue()
        return target

    return by_command_line


def test_arrays_of_three_and_one_channels_are_those_of_the_engine(rgb):
    engine = Engine(MODEL, device="cpu", tile=32)
    upscaler = Upscaler(MODEL, device="cpu", tile=32, keep_colour=False)
    for array in (rgb, rgb[..., :1], rgb[..., 0], rgb.astype(np.uint16) * 257):
        expected = engine.upscale(array)
        result = upscaler.upscale(array)
        assert result.dtype == array.dtype and result.ndim == array.ndim
        assert np.array_equal(result, expected)
        assert np.array_equal(upscaler.upscale(array, scale=2), engine.upscale(array, scale=2))


@pytest.mark.parametrize("deep", [False, True])
def test_alpha_is_treated_as_on_the_command_line(deep, upscaler, rgba, by_command_line, tmp_path):
    array = rgba.astype(np.uint16) * 257 if deep else rgba
    source = tmp_path / "small.png"
    image = Image(np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3]))
    write_file(image, source, format="png")
    expected = read_file(by_command_line(source))
    result = upscaler.upscale(array)
    assert (result.shape, result.dtype) == ((160, 192, 4), array.dtype)
    assert np.array_equal(result[..., :3], expected.pixels)
    assert np.array_equal(result[..., 3], expected.alpha)
    assert np.array_equal(upscaler.run(array).pixels, result)


def test_seamless_images(upscaler, rgb, rgba, by_command_line, tmp_path):
    engine = Engine(MODEL, device="cpu", tile=32)
    plain = Upscaler(MODEL, device="cpu", tile=32, keep_colour=False)
    wrapped = plain.upscale(rgb, seamless="x")
    assert np.array_equal(wrapped, engine.upscale(rgb, seamless="x"))
    assert not np.array_equal(wrapped, engine.upscale(rgb))
    source = tmp_path / "small.png"
    PilImage.fromarray(rgba).save(source)
    expected = read_file(by_command_line(source, "--seamless", "xy"))
    result = upscaler.upscale(source, seamless="xy")
    assert np.array_equal(result.pixels, expected.pixels)
    assert np.array_equal(result.alpha, expected.alpha)


def test_grey_with_alpha(upscaler, rgba):
    array = rgba[..., 2:]
    result = upscaler.run(array, size=(96, 80))
    assert result.pixels.shape == (80, 96, 2)
    assert result.report.device == "cpu"
    grey = np.repeat(array[..., :1], 3, axis=2)
    same = upscaler.upscale(np.dstack((grey, array[..., 1])), size=(96, 80))
    assert np.array_equal(result.pixels[..., 0], same[..., 1])
    assert np.array_equal(result.pixels[..., 1], same[..., 3])


def test_a_path_its_content_and_an_image_give_an_image(upscaler, rgba, by_command_line, tmp_path):
    source = tmp_path / "small.png"
    PilImage.fromarray(rgba).save(source, dpi=(300, 300))
    expected = read_file(by_command_line(source))
    for given in (source, str(source), source.read_bytes(), read_file(source)):
        result = upscaler.upscale(given)
        assert isinstance(result, Image)
        assert np.array_equal(result.pixels, expected.pixels)
        assert np.array_equal(result.alpha, expected.alpha)
        assert result.metadata.dpi == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_pil_image_gives_a_pil_image(mode, upscaler, rgba, by_command_line, tmp_path):
    small = PilImage.fromarray(rgba).convert(mode)
    small.save(tmp_path / "small.png")
    result = upscaler.upscale(small)
    assert (result.mode, result.size) == (mode, (192, 160))
    expected = PilImage.open(by_command_line(tmp_path / "small.png"))
    assert np.array_equal(np.asarray(result), np.asarray(expected.convert(mode)))


def test_other_pil_modes_are_converted(upscaler, rgb):
    small = PilImage.fromarray(rgb)
    palette = small.quantize(16)
    assert upscaler.upscale(palette).mode == "RGB"
    palette.info["transparency"] = 3
    assert upscaler.upscale(palette).mode == "RGBA"
    assert upscaler.upscale(small.convert("1")).mode == "L"
    deep = PilImage.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    result = upscaler.upscale(deep)
    assert result.mode == "I;16"
    expected = upscaler.upscale(rgb[..., 0].astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(result), expected)


def test_the_profile_of_a_pil_image_is_kept(upscaler, rgb):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = PilImage.fromarray(rgb)
    small.info["icc_profile"] = profile
    assert upscaler.upscale(small).info["icc_profile"] == profile


def test_an_image_keeps_its_metadata(upscaler, rgb):
    result = upscaler.upscale(Image(rgb, metadata=Metadata(comment="at home")), scale=1.5)
    assert (result.width, result.height, result.metadata.comment) == (72, 60, "at home")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "cannot upscale a NoneType: pass a NumPy array, a PIL image, the path or content"),
        ([[0, 1]], "cannot upscale a list: pass a NumPy array"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 4)), "float64"),
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros((0, 4, 4), np.uint8), r"shape \(0, 4, 4\)"),
        (PilImage.new("CMYK", (4, 4)), "mode CMYK: pass image.convert"),
    ],
)
def test_what_is_not_taken_is_a_usage_error_of_one_line(image, message, upscaler):
    for method in (upscaler.upscale, upscaler.run):
        with pytest.raises(UsageError, match=message) as caught:
            method(image)
        assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_image_errors(upscaler, tmp_path):
    with pytest.raises(ImageError, match=r"https://a\.b/c\.png: addresses are not fetched"):
        upscaler.upscale("https://a.b/c.png")
    with pytest.raises(ImageError, match="does not exist"):
        upscaler.upscale(tmp_path / "gone.png")


def test_the_engine_names_what_it_takes():
    with pytest.raises(UsageError, match="a str is not a NumPy array"):
        Engine(MODEL, device="cpu").upscale("photo.png")  # pyright: ignore[reportArgumentType]


def test_progress_counts_colour_and_alpha(upscaler, rgba):
    steps = []
    upscaler.upscale(rgba, progress=steps.append)
    assert steps[-1].done == steps[-1].total > 1


def test_arrays_that_cannot_be_written_give_no_warning(upscaler, rgb):
    array = rgb.copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upscaler.upscale(array)


# --- automatic networks -----------------------------------------------------------------------


@pytest.fixture
def networks(monkeypatch, random_network):
    """Replace all networks by small ones; return the names of those that were loaded."""
    names = []

    def load(name):
        names.append(name)
        spec = SRVGGSpec(4, features=8, convolutions=2)
        return EngineModel.from_network(name, random_network(spec, len(name)))

    monkeypatch.setattr("upscale.engine.loading.load_model", load)
    return names


def test_the_default_chooses_for_each_image_and_reports_why(networks, rgb, tmp_path):
    upscaler = Upscaler(device="cpu")
    assert (upscaler.model_name, upscaler.model_scale, networks) == ("auto", 4, [])
    file = tmp_path / "bad.jpg"
    PilImage.fromarray(rgb).save(file, quality=30)
    for source in (file, file.read_bytes()):
        result = upscaler.run(source, scale=2)
        assert result.report.choice.weights == {DAMAGED: 1.0}
        assert result.report.model == DAMAGED
        assert "quality" in result.report.choice.reason
        assert result.pixels.shape == (80, 96, 3)
    assert upscaler.run(rgb).report.choice.reason
    assert upscaler.upscale(np.zeros((5, 6), np.uint8)).shape == (20, 24)


def test_a_named_network_is_not_a_choice(upscaler, rgb):
    assert upscaler.run(rgb).report.choice is None


def test_a_fidelity_mixes_networks(networks, rgb, rgba):
    upscaler = Upscaler(device="cpu", fidelity=0.25, keep_colour=False)
    report = upscaler.run(rgba).report
    assert report.model == f"{CLEAN} + {DAMAGED}"
    assert report.choice.weights == {CLEAN: 0.25, DAMAGED: 0.75}
    single = {
        name: Upscaler(loading.load_model(name), device="cpu", keep_colour=False)
        for name in (CLEAN, DAMAGED)
    }
    expected = 0.25 * single[CLEAN].upscale(rgb) + 0.75 * single[DAMAGED].upscale(rgb)
    large = upscaler.upscale(rgb)
    assert np.abs(large - expected).max() <= 1
    with pytest.raises(UsageError, match=r"outside 0\.\.1"):
        Upscaler(fidelity=1.5)
    with pytest.raises(UsageError, match="-n auto"):
        Upscaler(MODEL, fidelity=0.5)
    with pytest.raises(UsageError, match="--denoise is not supported by auto"):
        Upscaler(denoise=0.5)


def test_the_first_tensor_decides_for_all(networks, rgb, monkeypatch):
    choices = iter([Choice({CLEAN: 1.0}, "first", True), Choice({DAMAGED: 1.0}, "second", True)])
    monkeypatch.setattr(selection, "choose", lambda samples, probe: next(choices))
    upscaler = Upscaler(device="cpu")
    tensor = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    first = upscaler.run_tensor(tensor)
    assert torch.equal(upscaler.run_tensor(tensor), first)
    assert networks == [CLEAN]
    with pytest.raises(UsageError, match=r"\(1, C, H, W\)"):
        Upscaler(device="cpu").run_tensor(tensor[0])


def test_colours_are_kept_if_wanted(rgb):
    def error(result):
        return float(np.abs(result.mean((0, 1)) - rgb.mean((0, 1))).max())

    plain, kept = (Upscaler(MODEL, device="cpu", keep_colour=keep) for keep in (False, True))
    first, second = plain.run(rgb), kept.run(rgb)
    assert (first.report.colour_kept, second.report.colour_kept) == (False, True)
    assert error(second.pixels) < error(first.pixels) / 2
    assert np.array_equal(kept.upscale(PilImage.fromarray(rgb)), second.pixels)
    image = torch.from_numpy(rgb.transpose(2, 0, 1)[None] / np.float32(255))
    tensor = kept.run_tensor(image)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(tensor - second.pixels).max() <= 1.1


def test_auto_keeps_the_colours_of_clean_images(rgb, monkeypatch):
    upscaler = Upscaler(MODEL, device="cpu")
    for clean in (True, False):
        monkeypatch.setattr(selection, "looks_clean", lambda samples, clean=clean: clean)
        assert upscaler.run(rgb).report.colour_kept is clean
        assert upscaler.run(PilImage.fromarray(rgb)).report.colour_kept is clean
