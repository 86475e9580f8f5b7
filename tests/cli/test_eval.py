from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from upscale.checkpoints import availability, catalog
from upscale.cli import image_batch as work
from upscale.errors import CheckpointError
from upscale.metrics import niqe, psnr, ssim

QUICK = "realesr-animevideov3"
ANIME = "realesrgan-x4plus-anime"
FAST = ("--metrics", "psnr,ssim")
CLEAN = ("--degrade", "classical")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pair(photo, tmp_path):
    """Two folders of results and one of originals."""
    for name in ("one", "two"):
        path = photo(f"ref/{name}.png", 64, 48)
        pixels = cv2.imread(str(path))
        for folder, sigma in (("a", 0.5), ("b", 1.5)):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(
                str(tmp_path / folder / f"{name}.png"), cv2.GaussianBlur(pixels, (0, 0), sigma)
            )


def rgb(path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# --- files -----------------------------------------------------------------------------------


def test_a_pair_is_measured_and_shown(call, pair, tmp_path):
    ended = call("eval", "a/one.png", "--reference", "ref/one.png", *FAST)
    assert (ended.code, ended.err) == (0, "")
    one, reference = rgb(tmp_path / "a/one.png"), rgb(tmp_path / "ref/one.png")
    assert rows(ended.out) == [
        ["image", "PSNR ↑", "SSIM ↑"],
        ["a/one.png", f"{psnr(one, reference):.2f}", f"{ssim(one, reference):.4f}"],
    ]


def test_folders_are_compared_and_their_means_shown(call, pair, tmp_path):
    ended = call("eval", "a", "b", "--reference", "ref", *FAST, "--border", "4")
    assert (ended.code, ended.err) == (0, "")
    table = rows(ended.out)
    assert table[0] == ["image", "version", "PSNR ↑", "SSIM ↑"]
    assert [row[:2] for row in table[1:5]] == [
        ["one", "a"],
        ["two", "a"],
        ["one", "b"],
        ["two", "b"],
    ]
    values = [
        psnr(rgb(tmp_path / f"a/{name}.png"), rgb(tmp_path / f"ref/{name}.png"), border=4)
        for name in ("one", "two")
    ]
    assert table[5][:3] == ["mean of 2", "a", f"{np.mean(values):.2f}"]
    assert table[6][:2] == ["mean of 2", "b"]


def test_images_alone_are_measured_without_references(call, photo, tmp_path):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (200, 200, 3)))
    ended = call("eval", "x.png")
    assert (ended.code, ended.err) == (0, "")
    table = rows(ended.out)
    assert table[0] == ["image", "NIQE ↓", "BRISQUE ↓", "PIQE ↓"]
    assert table[1][:2] == ["x.png", f"{niqe(rgb(path)):.3f}"]


def test_json_is_one_object_a_line(call, pair, tmp_path):
    (tmp_path / "a/one.png").write_bytes((tmp_path / "ref/one.png").read_bytes())
    ended = call("eval", "a", "--reference", "ref", *FAST, "--json")
    assert ended.code == 0
    one, two, mean, used = lines(ended.out)
    assert one == {
        "kind": "picture",
        "image": "one",
        "picture": "one",
        "version": "a",
        "input": "a/one.png",
        "reference": "ref/one.png",
        "values": {"psnr": None, "ssim": 1.0},
        "notes": ["PSNR: infinite, because the images are equal"],
        "error": None,
    }
    expected = psnr(rgb(tmp_path / "a/two.png"), rgb(tmp_path / "ref/two.png"))
    assert two["values"]["psnr"] == pytest.approx(expected)
    assert (mean["kind"], mean["version"], mean["images"]) == ("mean", "a", 2)
    assert mean["pictures"] == 2
    assert mean["values"]["psnr"] is None
    assert mean["values"]["ssim"] == pytest.approx((1 + two["values"]["ssim"]) / 2)
    assert used["kind"] == "metrics" and used["missing"] == {}
    assert used["used"]["psnr"]["better"] == "more"


def test_missing_metrics_are_named_with_the_reason(call, pair):
    ended = call("eval", "a/one.png", "--reference", "ref")
    assert ended.code == 0
    assert "note: lpips was not measured: needs alexnet-owt-7be5be79.pth" in ended.err
    missing = lines(call("eval", "a/one.png", "--reference", "ref", "--json").out)[-1]["missing"]
    assert {"lpips", "lpips-vgg", "dists"} <= missing.keys()
    ended = call("eval", "a/one.png", "--reference", "ref", "--metrics", "psnr,lpips")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: lpips: needs alexnet-owt-7be5be79.pth")


def test_the_folder_of_files_can_come_from_the_environment(call, pair, tmp_path):
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"other")
    ended = call("eval", "a/one.png", "--reference", "ref", "--metrics", "dists",
                 "--metric-files", ".")  # fmt: skip
    assert ended.code == 1 and "is not the vgg16-397923af.pth of torchvision" in ended.err


def test_images_that_do_not_match_are_errors_and_the_others_are_measured(
    call, photo, pair, tmp_path
):
    photo("a/three.png", 30, 30)
    photo("ref/three.png", 45, 30)
    photo("a/four.png", 30, 30)
    (tmp_path / "a/one.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    ended = call("eval", "a", "--reference", "ref", *FAST)
    assert ended.code == 3
    assert [row[0] for row in rows(ended.out)[1:]] == ["two"]
    errors = ended.err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: a/") for line in errors)
    assert "error: a/four.png: has no reference: ref contains no image named four" in errors
    assert any("is 30x30, and its reference ref/three.png is 45x30" in line for line in errors)


def test_nothing_to_measure_is_a_failure(call, photo, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = call("eval", "empty")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: no images found; use -r to include subfolders\n"
    ended = call("eval", "none.png")
    assert ended.code == 1 and "none.png: does not exist" in ended.err


def test_metrics_that_cannot_be_computed_are_explained(call, photo):
    photo("x.png", 10, 10)
    ended = call("eval", "x.png", "--reference", "x.png", *FAST)
    assert ended.code == 0
    assert rows(ended.out)[1] == ["x.png", "inf"]
    assert "note: x.png: SSIM: 10x10 is smaller than SSIM's window of 11x11" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing command"),
        (("a", "--metrics", "psnr"), "psnr needs a reference: pass --reference"),
        (("a", "--metrics", "niqe,nope"), "unknown metric 'nope'"),
        (("a", "--metrics", ""), "unknown metric ''"),
        (("a", "--border", "-1"), "--border"),
        (("a", "--html", "page.txt"), "--html page.txt: the file name must end in .html"),
        (("a", "-o", "table.txt"), "-o table.txt: the file name must end in .csv"),
        (("-",), "no input"),
        (("models", "--on", "ref"), "NAME"),
        (("models", QUICK), "--on"),
        (
            ("models", QUICK, "--on", "ref", "--degrade", "nope"),
            "nope: neither a degradation chain nor a recipe",
        ),
        (("models", QUICK, "gone.pth", "--on", "ref"), "gone.pth"),
        (
            ("models", QUICK, "--on", "ref", "--degrade", "generic,generic"),
            "--degrade: generic is given twice",
        ),
        (
            ("models", QUICK, "--on", "ref", "--degrade", "generic", "--gate"),
            "--gate measures clean images: add classical to --degrade",
        ),
        (
            ("models", QUICK, "--on", "ref", "--metrics", "psnr-y", "--gate"),
            "--gate needs st-lpips: add it to --metrics",
        ),
    ],
)
def test_invalid_requests_fail_before_any_work(call, pair, upscalers, arguments, message):
    ended = call("eval", *arguments)
    assert ended.code in (1, 2) and ended.out == "" and not upscalers
    assert message in ended.err and ended.err.count("error: ") == 1


# --- tables and pages ------------------------------------------------------------------------


def test_a_table_and_a_page_are_written(call, pair, tmp_path):
    ended = call(
        "eval", "a", "b", "--reference", "ref", *FAST, "-o", "new/t.csv", "--html", "p.html"
    )
    assert ended.code == 0 and "mean of 2" in ended.out
    with (tmp_path / "new/t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["picture"], row["version"]) for row in table] == [
        *(("one", "a"), ("two", "a"), ("one", "b"), ("two", "b"))
    ]
    one = psnr(rgb(tmp_path / "a/one.png"), rgb(tmp_path / "ref/one.png"))
    assert float(table[0]["psnr"]) == one
    page = (tmp_path / "p.html").read_text("utf-8")
    assert re.findall(r'<img alt="([^"]*)"', page) == ["reference", "a", "b"] * 2
    assert re.findall(r"<h2><bdi>(.*?)</bdi>", page) == ["one", "two"]
    assert "PSNR ↑" in page and f"PSNR {one:.2f}" in page
    assert page.count('<td class="best">') == 2
    assert "PSNR: own; all channels, in dB" in page
    assert str(tmp_path) not in page


def test_existing_files_and_inputs_are_not_replaced(call, pair, tmp_path):
    (tmp_path / "p.html").write_text("mine")
    (tmp_path / "t.csv").write_text("mine")
    for flag, name in (("--html", "p.html"), ("-o", "t.csv")):
        ended = call("eval", "a", "--reference", "ref", *FAST, flag, name)
        assert (ended.code, ended.out) == (1, "") and "exists already" in ended.err
        assert (tmp_path / name).read_text() == "mine"
        assert call("eval", "a", "--reference", "ref", *FAST, flag, name, "--overwrite").code == 0
        assert (tmp_path / name).read_text() != "mine"


def test_without_images_no_page_is_left(call, tmp_path):
    (tmp_path / "empty").mkdir()
    assert call("eval", "empty", "--html", "p.html").code == 1
    assert not (tmp_path / "p.html").exists()


# --- networks --------------------------------------------------------------------------------


def test_networks_and_bicubic_are_compared_with_the_originals(call, pair, upscalers, tmp_path):
    ended = call("eval", "models", QUICK, ANIME, "--on", "ref", *CLEAN, *FAST, "--html", "p.html")
    assert ended.code == 0, ended.err
    assert "2 images, downscaled x4 by classical, seed 0" in ended.err
    table = rows(ended.out)
    names = ["bicubic", QUICK, ANIME]
    assert [row[:2] for row in table[1:7]] == [[p, name] for name in names for p in ("one", "two")]
    means = table[7:]
    assert [row[:2] for row in means] == [["mean of 2", name] for name in names]
    # the fake upscalers repeat pixels, which is worse than bicubic
    assert float(means[0][2]) > float(means[1][2]) and means[1][2:] == means[2][2:]
    assert [upscaler.engine.model for upscaler in upscalers] == [QUICK, ANIME]
    assert [size for upscaler in upscalers for size in upscaler.sizes] == [(64, 48)] * 4
    page = (tmp_path / "p.html").read_text("utf-8")
    assert re.findall(r'<img alt="([^"]*)"', page) == ["reference", *names] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "p.html", "ref"]


def test_bicubic_is_bicubic(call, pair, tmp_path):
    assert (
        call("eval", "models", QUICK, "--on", "ref", *FAST, "--scale", "2", "--keep", "kept").code
        == 0
    )
    low = cv2.imread(str(tmp_path / "kept/classical/set/lq/one.png"))
    assert low.shape == (24, 32, 3)
    from PIL import Image

    expected = np.asarray(Image.fromarray(low).resize((64, 48), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "kept/classical/bicubic/one.png")), expected
    )


def test_the_test_set_depends_on_the_seed_and_not_on_the_networks(call, pair):
    def values(*arguments):
        ended = call("eval", "models", *arguments, "--on", "ref", "--degrade", "real-esrgan",
                     *FAST, "--json")  # fmt: skip
        assert ended.code == 0, ended.err
        return {
            (line["version"], line["image"]): line["values"]
            for line in lines(ended.out)
            if line["kind"] == "picture"
        }

    first = values(QUICK)
    again = values(ANIME, QUICK)
    assert {key: again[key] for key in first} == first
    other = values(QUICK, "--seed", "1")
    assert all(other[key] != first[key] for key in first)


def test_json_contains_the_set_and_the_time_of_each_network(call, pair):
    ended = call("eval", "models", QUICK, "--on", "ref", *CLEAN, *FAST, "--json")
    test_set, network, *rest = lines(ended.out)
    assert test_set == {
        "kind": "set", "chain": "classical", "scale": 4, "seed": 0, "images": 2, "pictures": 2,
    }  # fmt: skip
    assert network["kind"] == "network" and network["version"] == QUICK
    assert network["chain"] == "classical"
    assert network["images"] == network["pictures"] == 2 and network["seconds"] >= 0
    assert [line["kind"] for line in rest] == ["picture"] * 4 + ["mean"] * 2 + ["metrics"]
    assert rest[0]["input"] is None and rest[0]["reference"] is None


def test_kept_images_are_reused(call, pair, upscalers, photo, tmp_path):
    arguments = ("eval", "models", QUICK, "--on", "ref", *CLEAN, *FAST, "--keep", "kept")
    first = call(*arguments)
    assert first.code == 0 and len(upscalers) == 1 and len(upscalers[0].sizes) == 2
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.png")}
    assert len(kept) == 8
    again = call(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert sum(len(upscaler.sizes) for upscaler in upscalers) == 2
    photo("ref/three.png", 64, 48)
    (tmp_path / "ref/one.png").unlink()
    third = call(*arguments)
    assert [row[0] for row in rows(third.out)[1:5]] == ["three", "two"] * 2
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    other = call(*arguments, "--seed", "7")
    assert other.code == 1 and "contains a set of another chain, scale or seed" in other.err


def test_a_recipe_defines_the_degradation(call, pair):
    recipe = ROOT / "training/upscale_training/recipes/real-esrgan-x2.yaml"
    ended = call("eval", "models", QUICK, "--on", "ref", "--degrade", recipe, *FAST, "--json")
    assert ended.code == 0, ended.err
    test_set = lines(ended.out)[0]
    assert (test_set["chain"], test_set["scale"], test_set["images"]) == ("real-esrgan", 2, 2)


def test_a_network_that_fails_does_not_stop_the_others(call, pair, monkeypatch):
    make = work.make_upscaler

    def failing(engine, view):
        if engine.model == ANIME:
            raise CheckpointError("the file is damaged")
        return make(engine, view)

    monkeypatch.setattr(work, "make_upscaler", failing)
    ended = call("eval", "models", ANIME, QUICK, "--on", "ref", *FAST)
    assert ended.code == 3  # and the network is named once, not once for each chain
    assert ended.err.count("error: ") == 1
    assert f"error: {ANIME}: the file is damaged" in ended.err
    assert {row[2] for row in rows(ended.out)[1:9]} == {"bicubic", QUICK}


def test_a_missing_network_does_not_stop_the_others(call, pair, monkeypatch):
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    absent = "realesrnet-x4plus"
    if availability(catalog()[absent]) != "absent":
        pytest.skip(f"{absent} is here")
    arguments = ("eval", "models", absent, QUICK, "--on", "ref", *FAST, "--keep", "kept")
    ended = call(*arguments)
    assert ended.code == 3 and ended.err.count("error: ") == 1
    assert f"error: {absent}: " in ended.err
    assert {row[2] for row in rows(ended.out)[1:9]} == {"bicubic", QUICK}


def test_an_unreadable_image_is_reported(call, pair, tmp_path):
    (tmp_path / "ref/one.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    ended = call("eval", "models", QUICK, "--on", "ref", *CLEAN, *FAST)
    assert ended.code == 3 and "error: ref/one.png" in ended.err
    assert [row[0] for row in rows(ended.out)[1:]] == ["two", "two"]


def test_clean_and_damaged_images_are_measured_side_by_side(call, pair, upscalers, tmp_path):
    arguments = ("eval", "models", QUICK, "--on", "ref", *FAST, "--keep", "kept")
    ended = call(*arguments, "-o", "t.csv", "--html", "p.html")
    assert ended.code == 0, ended.err
    table = rows(ended.out)
    chains, names = ["classical", "real-esrgan"], ["bicubic", QUICK]
    expected = [[c, name] for c in chains for name in names]
    assert table[0][:3] == ["image", "chain", "version"]
    assert [row[:3] for row in table[1:9]] == [
        [image, *label] for label in expected for image in ("one", "two")
    ]
    means = table[9:]
    assert [row[:3] for row in means] == [["mean of 2", *label] for label in expected]
    values = [
        [
            psnr(
                rgb(tmp_path / f"kept/{chain}/bicubic/{name}.png"),
                rgb(tmp_path / f"ref/{name}.png"),
            )
            for name in ("one", "two")
        ]
        for chain in chains
    ]
    assert [means[0][3], means[2][3]] == [f"{np.mean(of_chain):.2f}" for of_chain in values]
    assert np.mean(values[0]) > np.mean(values[1]) + 1
    with (tmp_path / "t.csv").open(newline="") as file:
        lines_of_file = list(csv.DictReader(file))
    assert [(row["chain"], row["version"]) for row in lines_of_file[::2]] == [
        (chain, name) for chain in chains for name in names
    ]
    page = (tmp_path / "p.html").read_text("utf-8")
    assert re.findall(r"<h2><bdi>(.*?)</bdi>", page) == [
        f"{name} ({chain})" for chain in chains for name in ("one", "two")
    ]
    assert page.count('<td class="best">') == 4  # psnr and ssim of each chain

    count = sum(len(upscaler.sizes) for upscaler in upscalers)
    again = call(*arguments, "--json")
    assert sum(len(upscaler.sizes) for upscaler in upscalers) == count
    records = lines(again.out)
    labels = [(one["chain"], one["version"]) for one in records if one["kind"] == "mean"]
    assert labels == [(chain, name) for chain in chains for name in names]
    assert {one["chain"] for one in records if one["kind"] in ("set", "picture")} == set(chains)


def test_a_note_on_many_images_is_one_line(call, pair):
    ended = call("eval", "models", QUICK, "--on", "ref", "-s", "1", *CLEAN,
                 "--metrics", "psnr,psnr-y")  # fmt: skip
    assert ended.code == 0
    notes = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    # The fake network returns its input, too.
    assert notes == ["note: 4 of 4 images: PSNR and PSNR-Y: infinite, because the images are equal"]


# --- the gate --------------------------------------------------------------------------------


GATE = ("--metrics", "psnr-y,st-lpips", "--gate")


def test_a_network_that_is_worse_than_bicubic_fails_the_gate(call, pair):
    # The fake upscaler repeats pixels: its errors are larger, but it looks sharper.
    arguments = ("eval", "models", QUICK, "--on", "ref", "-s", "2", *CLEAN, *GATE)
    ended = call(*arguments)
    assert ended.code == 1
    table = rows(ended.out)
    bicubic, network = table[-2], table[-1]
    assert ended.err.count("error: ") == 1
    prefix = f"error: {QUICK}: fails the gate (classical x2): "
    assert f"{prefix}PSNR-Y {network[2]} is below the limit of {bicubic[2]}\n" in ended.err
    [gate] = [line for line in lines(call(*arguments, "--json").out) if line["kind"] == "gate"]
    assert (gate["version"], gate["chain"], gate["scale"]) == (QUICK, "classical", 2)
    assert gate["passed"] is False
    assert [check["metric"] for check in gate["checks"]] == ["psnr-y", "st-lpips"]
    assert [check["passed"] for check in gate["checks"]] == [False, True]
    assert [check["images"] for check in gate["checks"]] == [2, 2]
    assert f"{gate['checks'][1]['limit']:.4f}" == bicubic[3]
    assert f"{gate['checks'][0]['value']:.2f}" == network[2]


def test_a_network_that_changes_nothing_passes_the_gate_at_scale_1(call, pair):
    arguments = ("eval", "models", QUICK, "--on", "ref", "-s", "1", *CLEAN, *GATE)
    ended = call(*arguments)
    assert ended.code == 0
    assert f"{QUICK}: passes the gate (classical x1)" in ended.err


def test_failures_of_damaged_images_do_not_count_at_the_gate(call, pair):
    ended = call("eval", "models", QUICK, "--on", "ref", "-s", "1", *GATE)
    assert ended.code == 0, ended.err


# --- the command -----------------------------------------------------------------------------


def test_metrics_are_listed(call):
    ended = call("eval", "metrics")
    assert ended.code == 0
    listing = {row[0]: row for row in rows(ended.out)[1:]}
    assert listing["psnr"][:3] == ["psnr", "higher", "required"]
    assert listing["psnr"][4] == "yes"
    assert listing["niqe"][1:3] == ["lower", "none"]
    assert listing["lpips"][4].startswith("needs alexnet-owt-7be5be79.pth")
    listed = {line["name"]: line for line in lines(call("eval", "metrics", "--json").out)}
    assert listed.keys() == listing.keys()
    assert listed["psnr"]["missing"] is None and "needs" in listed["dists"]["missing"]


def test_help_shows_files_and_models(call, capsys):
    for arguments, word in [
        (("eval", "--help"), "models"),
        (("eval", "files", "--help"), "--reference"),
        (("eval", "models", "--help"), "--degrade"),
    ]:
        assert call(*arguments).code == 0
        assert word in capsys.readouterr().out


def test_measuring_files_imports_no_torch_unless_a_network_measures(pair, tmp_path):
    code = (
        "import sys; from upscale.cli.app import run; from upscale.cli.session import Session\n"
        "run(['eval', 'a', '--reference', 'ref', '--metrics', 'psnr,niqe'], Session.of_process())\n"
        "print({'torch', 'upscale_training'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == b"set()"
