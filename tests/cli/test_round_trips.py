"""Every kind of image through the program into every format, read by other programs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image, ImageCms

from upscale.images.formats import writable_traits

TRAITS = writable_traits()

MODEL = "realesr-animevideov3"
WIDTH, HEIGHT = 20, 16
SUFFIX = {"jpeg": "jpg", "tiff": "tif"}
EXIFTOOL_TYPES = {"jxl": "JXL", "heic": "HEIC", "png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}


@pytest.fixture(scope="module", autouse=True)
def _other_programs():
    for name in ("exiftool", "convert"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def slopes(full, channels):
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH] / max(WIDTH, HEIGHT)
    planes = np.dstack([0.2 + 0.6 * across, 0.7 - 0.5 * down, 0.3 + 0.4 * down, 0.4 + 0.6 * across])
    return np.ascontiguousarray(planes[..., :channels] * full)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One image of each kind, none of them written by our own code."""
    folder = tmp_path_factory.mktemp("kinds") / "scans"
    folder.mkdir()
    rgb8 = slopes(255, 3).astype(np.uint8)
    Image.fromarray(rgb8).save(folder / "rgb8.bmp")
    Image.fromarray(rgb8[..., 0]).save(folder / "grey8.png")
    Image.fromarray(slopes(255, 4).astype(np.uint8)).save(folder / "rgba8.webp", lossless=True)
    Image.fromarray(rgb8).quantize(32).save(folder / "palette.gif")
    Image.fromarray(rgb8).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    cv2.imwrite(str(folder / "rgb16.png"), slopes(65535, 3).astype(np.uint16))
    cv2.imwrite(str(folder / "grey16.png"), slopes(65535, 1).astype(np.uint16))
    tifffile.imwrite(folder / "float.tif", slopes(1, 3).astype(np.float32), photometric="rgb")
    (folder / "deep.avif").write_bytes(
        imagecodecs.avif_encode(slopes(1023, 3).astype(np.uint16), 100, bitspersample=10)
    )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(rgb8).save(
        folder / "tagged.jpg", quality=97, icc_profile=profile, dpi=(300, 300)
    )
    subprocess.run(
        ["exiftool", "-q", "-overwrite_original", "-Make=Maker", "-XMP:Rating=4", "-n",
         "-Orientation=6", "-DateTimeOriginal=2020:01:02 03:04:05", "-GPSLatitude=48.1",
         "-GPSLatitudeRef=N", "-IPTC:Caption-Abstract=Kitten", folder / "tagged.jpg"],
        check=True,
    )  # fmt: skip
    frames = [Image.fromarray(np.roll(rgb8, step, 1)) for step in (0, 4, 8, 4)]
    frames[0].save(
        folder / "moving.gif", save_all=True, append_images=frames[1:], duration=[100, 50, 70, 120],
        loop=2, disposal=2,
    )  # fmt: skip
    tifffile.imwrite(folder / "pages.tif", np.stack([rgb8, 255 - rgb8]), photometric="rgb")
    return folder


@pytest.fixture(scope="module")
def outputs(scans, tmp_path_factory):
    """What the program writes for all of them in a format: its report and its folder."""
    done: dict[str, tuple[dict[str, dict], Path]] = {}

    def run(format, call):
        if format not in done:
            folder = tmp_path_factory.mktemp(format)
            ended = call(
                scans, "-o", folder, "-f", format, "-n", MODEL, "--json",
                "--name", "{stem}.{ext}", "--tile", "64",
            )  # fmt: skip
            lines = [json.loads(line) for line in ended.out.splitlines()]
            done[format] = {Path(line["input"]).name: line for line in lines}, folder
            assert ended.code in (0, 3), ended.err
        return done[format]

    return run


def is_unsupported(name, traits):
    """Whether a format cannot hold one of the kinds."""
    return (
        (name == "rgba8.webp" and traits.alpha == "none")
        or (name == "moving.gif" and traits.frames != "animation")
        or (name == "pages.tif" and traits.frames != "pages")
    )


def exiftool(path):
    info = subprocess.run(
        ["exiftool", "-json", "-n", "-G0", str(path)], capture_output=True, check=True, text=True
    )
    return json.loads(info.stdout)[0]


def sizes_of(path):
    """Width and height as another program finds them."""
    if path.suffix in (".dds", ".tga"):
        with Image.open(path) as image:
            return set(image.size)
    if path.suffix == ".exr":
        channels = OpenEXR.File(str(path), True).channels()
        return set(next(iter(channels.values())).pixels.shape)
    info = exiftool(path)
    return {v for k, v in info.items() if k.endswith((":ImageWidth", ":ImageHeight"))}


@pytest.mark.parametrize("format", TRAITS)
def test_every_kind_is_written_or_an_error_according_to_the_traits(
    format, scans, outputs, real_call
):
    report, folder = outputs(format, real_call)
    assert set(report) == {path.name for path in scans.iterdir()}
    for name, line in report.items():
        if is_unsupported(name, TRAITS[format]):
            assert line["status"] == "failed" and "cannot hold" in line["error"], line
            continue
        assert line["status"] == "done", line
        path = folder / f"{Path(name).stem}.{SUFFIX.get(format, format)}"
        upright = (HEIGHT, WIDTH) if name == "tagged.jpg" else (WIDTH, HEIGHT)
        assert sizes_of(path) == {4 * upright[0], 4 * upright[1]}, path
    written = sum(line["status"] == "done" for line in report.values())
    assert len(list(folder.iterdir())) == written


@pytest.mark.parametrize("format", ["png", "tiff", "jpeg", "webp", "gif", "bmp", "avif"])
def test_the_colours_are_those_of_the_input(format, scans, outputs, real_call, tmp_path):
    """ImageMagick's mean of the output against those of the PNG and of the input.

    The network itself brightens such slopes, by 0.034 at most where all formats agree.
    """
    report, folder = outputs(format, real_call)
    _, reference = outputs("png", real_call)
    for name in ("rgb8.bmp", "grey8.png", "rgb16.png", "cmyk.jpg", "tagged.jpg", "palette.gif"):
        if report[name]["status"] != "done":
            continue
        written = folder / f"{Path(name).stem}.{SUFFIX.get(format, format)}"
        before, after = mean(scans / name), mean(written)
        assert np.abs(before - after).max() < 0.05, (name, before, after)
        assert np.abs(mean(reference / f"{Path(name).stem}.png") - after).max() < 0.004, name
        if name == "grey8.png":
            # AVIF stores colour differences even of grey, of which readers round a level or two.
            assert np.ptp(after) < (0.008 if format == "avif" else 0.003)


def mean(path):
    """Mean red, green and blue in 0..1, as ImageMagick finds them."""
    command = ["convert", str(path), "-auto-orient", "-colorspace", "sRGB", "-scale", "1x1!",
               "-depth", "16", "rgb:-"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout[:6], "<u2") / 65535


@pytest.mark.parametrize("format", ["png", "tiff", "avif"])
def test_other_readers_find_the_bit_depth(format, outputs, real_call):
    _, folder = outputs(format, real_call)
    suffix = SUFFIX.get(format, format)
    for stem in ("rgb16", "float", "deep"):
        path = folder / f"{stem}.{suffix}"
        if format == "tiff":
            pixels = tifffile.imread(path)
            assert pixels.dtype == (np.float32 if stem == "float" else np.uint16)
        elif format == "png":
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert pixels.dtype == np.uint16
        else:
            pixels = imagecodecs.avif_decode(path.read_bytes())
            assert pixels.dtype == np.uint16
            assert pixels.max() > 1023 or stem == "deep"
        # 8 bits stretched would have but 256 values.
        assert len(np.unique(pixels)) > 300
    grey = folder / f"grey16.{suffix}"
    if format == "png":
        assert cv2.imread(str(grey), cv2.IMREAD_UNCHANGED).shape == (64, 80)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"])
def test_metadata_is_found_by_another_reader(format, outputs, real_call):
    _, folder = outputs(format, real_call)
    info = exiftool(folder / f"tagged.{SUFFIX.get(format, format)}")
    names = {key.rpartition(":")[2]: value for key, value in info.items()}
    assert (names["Make"], names["Rating"]) == ("Maker", 4)
    assert names["DateTimeOriginal"] == "2020:01:02 03:04:05"
    assert names["GPSLatitude"] == pytest.approx(48.1)
    assert names.get("Orientation", 1) == 1
    carries = TRAITS[format].carries
    assert ("Caption-Abstract" in names) == ("iptc" in carries)
    assert ("ProfileDescription" in names) == ("icc" in carries)


@pytest.mark.parametrize("format", ["gif", "png", "webp"])
def test_an_animation_keeps_its_frames_times_and_plays(format, outputs, real_call):
    report, folder = outputs(format, real_call)
    assert report["moving.gif"]["frames"] == 4
    with Image.open(folder / f"moving.{format}") as image:
        assert image.n_frames == 4
        times = []
        for number in range(4):
            image.seek(number)
            image.load()
            times.append(round(image.info["duration"]))
        assert times == [100, 50, 70, 120]
        assert image.info["loop"] == (2 if format == "gif" else 3)


def test_stripped_outputs_contain_no_metadata(scans, real_call, tmp_path):
    for format in ("jpg", "png", "tif"):
        out = tmp_path / f"bare.{format}"
        ended = real_call(scans / "tagged.jpg", "-o", out, "-n", MODEL, "--strip-metadata")
        assert ended.code == 0, ended.err
        names = {key.rpartition(":")[2] for key in exiftool(out)}
        assert not names & {"Make", "Rating", "DateTimeOriginal", "GPSLatitude", "Caption-Abstract"}
        assert "ProfileDescription" in names
