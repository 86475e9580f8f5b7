from __future__ import annotations

import csv
import io
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.errors import CheckpointError, DependencyError, UsageError
from upscale.images import Image, Metadata, write_file
from upscale.jobs.eval_items import EvalItem
from upscale.jobs.evaluation import (
    Scores,
    best_versions,
    crop_sets,
    csv_table,
    format_score,
    load_metrics,
    mean_scores,
    measure,
)
from upscale.metrics import niqe, psnr, ssim
from upscale.metrics.registry import Resources, metrics


def noise(height=40, width=50, channels=3, seed=0, dtype=np.uint8) -> np.ndarray:
    full = np.iinfo(dtype).max
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, full, shape, endpoint=True).astype(dtype)


def put(path: Path, pixels: np.ndarray, alpha=None, icc=None) -> Path:
    image = Image(pixels, alpha, Metadata(icc=icc))
    write_file(image, path, format="png")
    return path


def load(*names: str, border: int = 0):
    return load_metrics(names, paired=True, border=border, resources=Resources())


# --- metrics ---------------------------------------------------------------------------------


def test_all_available_metrics_are_loaded_and_missing_ones_are_named():
    scores = load_metrics([], paired=True, resources=Resources())
    assert {metric.name for metric in scores.metrics} | scores.missing.keys() == metrics().keys()
    assert "alexnet-owt-7be5be79.pth" in scores.missing["lpips"]
    alone = load_metrics([], paired=False, resources=Resources())
    assert [metric.name for metric in alone.metrics] == ["niqe", "brisque", "piqe"]
    assert not alone.missing


def test_requested_metrics_keep_their_order():
    scores = load("niqe", "psnr")
    assert [metric.name for metric in scores.metrics] == ["niqe", "psnr"]
    assert list(scores.measures) == ["niqe", "psnr"] and not scores.missing


def test_requested_metric_must_be_available(tmp_path):
    with pytest.raises(DependencyError, match=r"^dists: needs vgg16-397923af\.pth"):
        load("psnr", "dists")
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^dists: .*is not the vgg16"):
        load_metrics(["dists"], paired=True, resources=Resources(tmp_path))
    assert (
        "is not the vgg16"
        in load_metrics([], paired=True, resources=Resources(tmp_path)).missing["dists"]
    )


def test_unknown_metric_names_are_rejected():
    with pytest.raises(UsageError, match="unknown metric 'nique'; did you mean niqe"):
        load("nique")
    with pytest.raises(UsageError, match="unknown metric 'zzz'; known metrics: psnr, psnr-y"):
        load("zzz")
    with pytest.raises(UsageError, match="ssim needs a reference: pass --reference"):
        load_metrics(["ssim"], paired=False, resources=Resources())


# --- measuring -------------------------------------------------------------------------------


def test_border_is_ignored(tmp_path):
    good, bad = noise(), noise(seed=1)
    item = EvalItem("x", "", put(tmp_path / "b.png", bad), put(tmp_path / "g.png", good))
    scores = measure(item, load("psnr", "psnr-y", "ssim", border=3))
    assert scores.values == {
        "psnr": psnr(bad, good, border=3),
        "psnr-y": psnr(bad, good, border=3, luma=True),
        "ssim": ssim(bad, good, border=3),
    }
    assert (scores.notes, scores.error) == ((), None)


def test_no_reference_metrics_need_no_reference(tmp_path):
    pixels = noise(200, 200)
    scores = measure(EvalItem("x", "", put(tmp_path / "x.png", pixels)), load("niqe"))
    assert scores.values == {"niqe": niqe(pixels)}


def test_different_depths_are_compared_without_rounding(tmp_path):
    deep = noise(dtype=np.uint16)
    coarse = (deep.astype(np.uint32) + 128) // 257
    item = EvalItem(
        "x", "", put(tmp_path / "8.png", coarse.astype(np.uint8)), put(tmp_path / "16.png", deep)
    )
    expected = 10 * math.log10(65535**2 / np.mean((deep - coarse * 257.0) ** 2))
    assert measure(item, load("psnr")).values["psnr"] == pytest.approx(expected, abs=1e-6)


def test_grey_is_comparable_with_colour(tmp_path):
    grey = noise(channels=1)
    item = EvalItem(
        "x", "", put(tmp_path / "g.png", grey), put(tmp_path / "c.png", grey.repeat(3, 2))
    )
    scores = measure(item, load("psnr"))
    assert scores.values["psnr"] == math.inf
    assert scores.notes == ("PSNR: infinite, because the images are equal",)


def test_transparent_pixels_are_composited_on_white(tmp_path):
    pixels, alpha = noise(), noise(channels=1, seed=2)[..., 0]
    alpha[:5] = 0
    white = np.rint(pixels * (alpha[..., None] / 255) + 255 - alpha[..., None]).astype(np.uint8)
    hidden = pixels.copy()
    hidden[:5] = 9
    item = EvalItem("x", "", put(tmp_path / "a.png", pixels, alpha), put(tmp_path / "w.png", white))
    scores = measure(item, load("psnr"))
    assert scores.values["psnr"] > 58
    assert scores.notes == ("transparent pixels were composited on white",)
    other = replace(item, path=put(tmp_path / "h.png", hidden, alpha))
    assert measure(other, load("psnr")).values == scores.values


def test_different_profiles_are_converted_to_srgb(tmp_path, data):
    from PIL import Image as PILImage

    with PILImage.open(data / "images/generated/p3.png") as opened:
        profile = opened.info["icc_profile"]
    pixels = noise()
    tagged = put(tmp_path / "p3.png", pixels, icc=profile)
    plain = put(tmp_path / "srgb.png", pixels)
    scores = measure(EvalItem("x", "", tagged, plain), load("psnr"))
    assert scores.values["psnr"] < 40
    assert scores.notes == ("the colour profiles differ, so both images were converted to sRGB",)
    again = put(tmp_path / "again.png", pixels, icc=profile)
    assert measure(EvalItem("x", "", tagged, again), load("psnr")).values["psnr"] == math.inf


def test_gamma_that_approximates_srgb_is_srgb(tmp_path):
    """ImageMagick writes these chunks into PNG files without a profile."""
    pixels = noise()
    plain = put(tmp_path / "plain.png", pixels)
    chunks = b""
    points = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    for body in (b"gAMA" + struct.pack(">I", 45455), b"cHRM" + struct.pack(">8I", *points)):
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = plain.read_bytes()
    tagged = tmp_path / "tagged.png"
    tagged.write_bytes(content[:33] + chunks + content[33:])
    scores = measure(EvalItem("x", "", tagged, plain), load("psnr"))
    assert scores.values["psnr"] == math.inf
    assert scores.notes == ("PSNR: infinite, because the images are equal",)


def test_sizes_must_be_equal(tmp_path):
    one, other = put(tmp_path / "a.png", noise(8, 9)), put(tmp_path / "b.png", noise(8, 8))
    scores = measure(EvalItem("x", "", one, other), load("psnr"))
    assert scores.values == {}
    assert scores.error == (
        f"{one}: is 9x8, and its reference {other} is 8x8: the sizes must be equal"
    )


def test_a_reference_loses_the_rest_of_its_division_by_the_scale(tmp_path):
    whole = noise(83, 121)
    reference = put(tmp_path / "b.png", whole)
    scores = measure(
        EvalItem("x", "", put(tmp_path / "a.png", whole[:80, :120]), reference), load("psnr")
    )
    assert scores.values["psnr"] == math.inf
    assert "the reference of 121x83 was cut to 120x80 at its right and bottom" in scores.notes
    for other in (whole[:72, :120], np.pad(whole, ((0, 1), (0, 0), (0, 0)))):
        item = EvalItem("x", "", put(tmp_path / f"{len(other)}.png", other), reference)
        assert "the sizes must be equal" in str(measure(item, load("psnr")).error)


def test_damaged_and_missing_files_are_reported(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    good = put(tmp_path / "good.png", noise())
    for path, reference in [(tmp_path / "bad.png", good), (good, tmp_path / "none.png")]:
        scores = measure(EvalItem("x", "", path, reference), load("psnr"))
        assert scores.values == {} and scores.error.startswith(str(tmp_path))


def test_metrics_that_cannot_be_computed_are_noted(tmp_path):
    path = put(tmp_path / "x.png", noise(10, 20))
    scores = measure(EvalItem("x", "", path, path), load("psnr", "ssim", "niqe"))
    assert scores.values == {"psnr": math.inf}
    assert scores.notes[1:] == (
        "SSIM: 20x10 is smaller than SSIM's window of 11x11",
        "NIQE: 20x10 does not hold two blocks of 96x96, which NIQE needs",
    )


# --- results ---------------------------------------------------------------------------------


def result(version="", image="x", error=None, **values) -> Scores:
    return Scores(EvalItem(image, version, Path(f"{image}.png")), values, error=error)


def test_means_are_computed_for_each_version():
    rows = [
        result("a", psnr=10, ssim=1),
        result("a", "y", psnr=20),
        result("b", psnr=math.inf),
        result("b", "y", psnr=3),
        result("c", error="damaged"),
    ]
    assert mean_scores(rows) == {"a": {"psnr": 15, "ssim": 1}, "b": {"psnr": math.inf}, "c": {}}


def test_best_version_follows_the_direction_of_the_metric():
    scores = {"a": {"psnr": 30, "niqe": 4}, "b": {"psnr": 31, "niqe": 5}, "c": {"psnr": 31}}
    assert best_versions(scores, metrics()["psnr"]) == {"b", "c"}
    assert best_versions(scores, metrics()["niqe"]) == {"a"}
    assert best_versions(scores, metrics()["ssim"]) == set()
    assert best_versions({"a": {"psnr": 30}}, metrics()["psnr"]) == set()
    assert best_versions({"a": {"psnr": 30}, "b": {"psnr": 30}}, metrics()["psnr"]) == set()


def test_scores_have_the_digits_of_their_metric():
    assert format_score(30.126, metrics()["psnr"]) == "30.13"
    assert format_score(0.98765, metrics()["ssim"]) == "0.9877"
    assert format_score(math.inf, metrics()["psnr"]) == "inf"


def test_csv_table_contains_all_digits_and_errors():
    rows = [result("a, b", psnr=1 / 3, niqe=math.inf), result(error="x.png: is 1x1,\nnot 2x2")]
    text = csv_table(rows, load("psnr", "ssim", "niqe")).decode()
    scores = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["psnr"] for row in scores] == [repr(1 / 3), ""]
    assert [row["ssim"] for row in scores] == ["", ""]
    assert [row["niqe"] for row in scores] == ["inf", ""]
    assert scores[0]["version"] == "a, b" and scores[1]["error"] == "x.png: is 1x1,\nnot 2x2"


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_crops_show_the_same_part_of_all_versions(tmp_path):
    good = np.full((600, 800, 3), 90, np.uint8)
    bad = good.copy()
    bad[500:540, 700:780] = 200
    files = [
        put(tmp_path / name, p) for name, p in [("g.png", good), ("a.png", good), ("b.png", bad)]
    ]
    rows = [
        measure(EvalItem("x", "a", files[1], files[0]), load("psnr")),
        measure(EvalItem("x_x4", "b", files[2], files[0]), load("psnr")),
        measure(EvalItem("y", "b", tmp_path / "none.png", files[0]), load("psnr")),
    ]
    [scores] = crop_sets(rows, load("psnr"))
    assert scores.name == "x"
    assert [version.label for version in scores.versions] == ["reference", "a", "b"]
    assert [version.note for version in scores.versions[:2]] == ["", "PSNR inf"]
    assert scores.versions[2].note.startswith("PSNR ")
    shown = [decoded(version.content) for version in scores.versions]
    assert {crop.shape for crop in shown} == {(192, 288, 3)}
    assert (shown[0] == 90).all() and (shown[1] == 90).all()
    assert (shown[2] == 200).sum() == 40 * 80 * 3


def test_images_without_reference_are_grouped_by_name(tmp_path):
    small = np.full((300, 500, 3), 90, np.uint8)
    small[200:260, 300:400] = noise(60, 100)
    large = small.repeat(2, 0).repeat(2, 1)
    rows = [
        measure(EvalItem("x", "", put(tmp_path / "x.png", small)), load("piqe")),
        measure(EvalItem("x_x2", "", put(tmp_path / "x_x2.png", large)), load("piqe")),
    ]
    [scores] = crop_sets(rows, load("piqe"))
    assert [version.label for version in scores.versions] == ["x.png", "x_x2.png"]
    one, other = (decoded(version.content) for version in scores.versions)
    np.testing.assert_array_equal(other[::2, ::2], one)
