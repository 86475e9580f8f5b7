from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.errors import CheckpointError, DependencyError, UsageError
from upscale.images import Image, Metadata, write_file
from upscale.jobs.eval_items import EvalItem
from upscale.jobs.evaluation import (
    Measurement,
    best_versions,
    crops,
    figure_text,
    means,
    measure,
    prepare,
    table_of,
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


def ready(*names: str, border: int = 0):
    return prepare(names, paired=True, border=border, resources=Resources())


# --- metrics ---------------------------------------------------------------------------------


def test_all_that_fit_are_used_and_the_others_are_named():
    found = prepare([], paired=True, resources=Resources())
    assert {metric.name for metric in found.metrics} | found.missing.keys() == metrics().keys()
    assert "alexnet-owt-7be5be79.pth" in found.missing["lpips"]
    alone = prepare([], paired=False, resources=Resources())
    assert [metric.name for metric in alone.metrics] == ["niqe", "brisque", "piqe"]
    assert not alone.missing


def test_those_that_were_named_are_used_in_that_order():
    found = ready("niqe", "psnr")
    assert [metric.name for metric in found.metrics] == ["niqe", "psnr"]
    assert list(found.measures) == ["niqe", "psnr"] and not found.missing


def test_what_was_named_must_be_there(tmp_path):
    with pytest.raises(DependencyError, match=r"^dists: needs vgg16-397923af\.pth"):
        ready("psnr", "dists")
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^dists: .*is not the vgg16"):
        prepare(["dists"], paired=True, resources=Resources(tmp_path))
    assert (
        "is not the vgg16"
        in prepare([], paired=True, resources=Resources(tmp_path)).missing["dists"]
    )


def test_names_are_checked():
    with pytest.raises(UsageError, match="there is no 'nique'; did you mean niqe"):
        ready("nique")
    with pytest.raises(UsageError, match="there is no 'zzz'; known: psnr, psnr-y"):
        ready("zzz")
    with pytest.raises(UsageError, match="ssim compares with a reference: give --reference"):
        prepare(["ssim"], paired=False, resources=Resources())


# --- measuring -------------------------------------------------------------------------------


def test_pairs_are_measured_without_their_border(tmp_path):
    good, bad = noise(), noise(seed=1)
    subject = EvalItem("x", "", put(tmp_path / "b.png", bad), put(tmp_path / "g.png", good))
    found = measure(subject, ready("psnr", "psnr-y", "ssim", border=3))
    assert found.values == {
        "psnr": psnr(bad, good, border=3),
        "psnr-y": psnr(bad, good, border=3, luma=True),
        "ssim": ssim(bad, good, border=3),
    }
    assert (found.notes, found.error) == ((), None)


def test_single_images_need_no_reference(tmp_path):
    pixels = noise(200, 200)
    found = measure(EvalItem("x", "", put(tmp_path / "x.png", pixels)), ready("niqe"))
    assert found.values == {"niqe": niqe(pixels)}


def test_depths_are_compared_as_they_are(tmp_path):
    deep = noise(dtype=np.uint16)
    coarse = (deep.astype(np.uint32) + 128) // 257
    subject = EvalItem(
        "x", "", put(tmp_path / "8.png", coarse.astype(np.uint8)), put(tmp_path / "16.png", deep)
    )
    wanted = 10 * math.log10(65535**2 / np.mean((deep - coarse * 257.0) ** 2))
    assert measure(subject, ready("psnr")).values["psnr"] == pytest.approx(wanted, abs=1e-6)


def test_grey_beside_colour_is_compared(tmp_path):
    grey = noise(channels=1)
    subject = EvalItem(
        "x", "", put(tmp_path / "g.png", grey), put(tmp_path / "c.png", grey.repeat(3, 2))
    )
    found = measure(subject, ready("psnr"))
    assert found.values["psnr"] == math.inf
    assert found.notes == ("PSNR: is infinite, because the images are equal",)


def test_what_is_transparent_is_measured_on_white(tmp_path):
    pixels, alpha = noise(), noise(channels=1, seed=2)[..., 0]
    alpha[:5] = 0
    white = np.rint(pixels * (alpha[..., None] / 255) + 255 - alpha[..., None]).astype(np.uint8)
    hidden = pixels.copy()
    hidden[:5] = 9
    subject = EvalItem(
        "x", "", put(tmp_path / "a.png", pixels, alpha), put(tmp_path / "w.png", white)
    )
    found = measure(subject, ready("psnr"))
    assert found.values["psnr"] > 58
    assert found.notes == ("what is transparent was measured on white",)
    other = replace(subject, path=put(tmp_path / "h.png", hidden, alpha))
    assert measure(other, ready("psnr")).values == found.values


def test_other_profiles_are_compared_as_srgb(tmp_path, data):
    from PIL import Image as PILImage

    with PILImage.open(data / "images/sharp/p3.png") as opened:
        profile = opened.info["icc_profile"]
    pixels = noise()
    tagged = put(tmp_path / "p3.png", pixels, icc=profile)
    plain = put(tmp_path / "srgb.png", pixels)
    found = measure(EvalItem("x", "", tagged, plain), ready("psnr"))
    assert found.values["psnr"] < 40
    assert found.notes == ("their profiles differ, so both were converted to sRGB",)
    again = put(tmp_path / "again.png", pixels, icc=profile)
    assert measure(EvalItem("x", "", tagged, again), ready("psnr")).values["psnr"] == math.inf


def test_sizes_must_be_equal(tmp_path):
    one, other = put(tmp_path / "a.png", noise(8, 9)), put(tmp_path / "b.png", noise(8, 8))
    found = measure(EvalItem("x", "", one, other), ready("psnr"))
    assert found.values == {}
    assert found.error == (
        f"{one}: is 9x8, and its reference {other} is 8x8: the sizes must be equal"
    )


def test_damaged_and_missing_files_are_told(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    good = put(tmp_path / "good.png", noise())
    for path, reference in [(tmp_path / "bad.png", good), (good, tmp_path / "none.png")]:
        found = measure(EvalItem("x", "", path, reference), ready("psnr"))
        assert found.values == {} and found.error.startswith(str(tmp_path))


def test_what_a_metric_cannot_measure_is_said(tmp_path):
    path = put(tmp_path / "x.png", noise(10, 20))
    found = measure(EvalItem("x", "", path, path), ready("psnr", "ssim", "niqe"))
    assert found.values == {"psnr": math.inf}
    assert found.notes[1:] == (
        "SSIM: 20x10 is less than SSIM's window of 11x11",
        "NIQE: 20x10 does not hold two blocks of 96x96, which NIQE needs",
    )


# --- results ---------------------------------------------------------------------------------


def result(version="", image="x", error=None, **values) -> Measurement:
    return Measurement(EvalItem(image, version, Path(f"{image}.png")), values, error=error)


def test_means_are_of_each_version_and_of_what_was_measured():
    rows = [
        result("a", psnr=10, ssim=1),
        result("a", "y", psnr=20),
        result("b", psnr=math.inf),
        result("b", "y", psnr=3),
        result("c", error="damaged"),
    ]
    assert means(rows) == {"a": {"psnr": 15, "ssim": 1}, "b": {"psnr": math.inf}, "c": {}}


def test_the_best_mean_follows_the_direction_of_the_metric():
    found = {"a": {"psnr": 30, "niqe": 4}, "b": {"psnr": 31, "niqe": 5}, "c": {"psnr": 31}}
    assert best_versions(found, metrics()["psnr"]) == {"b", "c"}
    assert best_versions(found, metrics()["niqe"]) == {"a"}
    assert best_versions(found, metrics()["ssim"]) == set()
    assert best_versions({"a": {"psnr": 30}}, metrics()["psnr"]) == set()
    assert best_versions({"a": {"psnr": 30}, "b": {"psnr": 30}}, metrics()["psnr"]) == set()


def test_figures_have_the_digits_of_their_metric():
    assert figure_text(30.126, metrics()["psnr"]) == "30.13"
    assert figure_text(0.98765, metrics()["ssim"]) == "0.9877"
    assert figure_text(math.inf, metrics()["psnr"]) == "inf"


def test_the_table_holds_every_digit_and_every_failure():
    rows = [result("a, b", psnr=1 / 3, niqe=math.inf), result(error="x.png: is 1x1,\nnot 2x2")]
    text = table_of(rows, ready("psnr", "ssim", "niqe")).decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["psnr"] for row in found] == [repr(1 / 3), ""]
    assert [row["ssim"] for row in found] == ["", ""]
    assert [row["niqe"] for row in found] == ["inf", ""]
    assert found[0]["version"] == "a, b" and found[1]["error"] == "x.png: is 1x1,\nnot 2x2"


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_crops_show_the_same_place_of_all_versions(tmp_path):
    good = np.full((600, 800, 3), 90, np.uint8)
    bad = good.copy()
    bad[500:540, 700:780] = 200
    files = [
        put(tmp_path / name, p) for name, p in [("g.png", good), ("a.png", good), ("b.png", bad)]
    ]
    rows = [
        measure(EvalItem("x", "a", files[1], files[0]), ready("psnr")),
        measure(EvalItem("x_x4", "b", files[2], files[0]), ready("psnr")),
        measure(EvalItem("y", "b", tmp_path / "none.png", files[0]), ready("psnr")),
    ]
    [found] = crops(rows, ready("psnr"))
    assert found.name == "x"
    assert [version.label for version in found.versions] == ["reference", "a", "b"]
    assert [version.note for version in found.versions[:2]] == ["", "PSNR inf"]
    assert found.versions[2].note.startswith("PSNR ")
    shown = [decoded(version.content) for version in found.versions]
    assert {crop.shape for crop in shown} == {(192, 288, 3)}
    assert (shown[0] == 90).all() and (shown[1] == 90).all()
    assert (shown[2] == 200).sum() == 40 * 80 * 3


def test_images_alone_are_grouped_by_name_whatever_their_sizes(tmp_path):
    small = np.full((300, 500, 3), 90, np.uint8)
    small[200:260, 300:400] = noise(60, 100)
    large = small.repeat(2, 0).repeat(2, 1)
    rows = [
        measure(EvalItem("x", "", put(tmp_path / "x.png", small)), ready("piqe")),
        measure(EvalItem("x_x2", "", put(tmp_path / "x_x2.png", large)), ready("piqe")),
    ]
    [found] = crops(rows, ready("piqe"))
    assert [version.label for version in found.versions] == ["x.png", "x_x2.png"]
    one, other = (decoded(version.content) for version in found.versions)
    np.testing.assert_array_equal(other[::2, ::2], one)
