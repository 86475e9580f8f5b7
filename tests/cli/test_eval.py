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
    one, good = rgb(tmp_path / "a/one.png"), rgb(tmp_path / "ref/one.png")
    assert rows(ended.out) == [
        ["picture", "PSNR", "SSIM"],
        ["better is", "more", "more"],
        ["a/one.png", f"{psnr(one, good):.2f}", f"{ssim(one, good):.4f}"],
    ]


def test_folders_are_compared_and_their_means_shown(call, pair, tmp_path):
    ended = call("eval", "a", "b", "--reference", "ref", *FAST, "--border", "4")
    assert (ended.code, ended.err) == (0, "")
    found = rows(ended.out)
    assert found[0] == ["picture", "PSNR", "SSIM"] and found[1] == [
        "better is",
        "of",
        "more",
        "more",
    ]
    assert [row[:2] for row in found[2:6]] == [
        ["one", "a"],
        ["two", "a"],
        ["one", "b"],
        ["two", "b"],
    ]
    values = [
        psnr(rgb(tmp_path / f"a/{name}.png"), rgb(tmp_path / f"ref/{name}.png"), border=4)
        for name in ("one", "two")
    ]
    assert found[6][:3] == ["mean of 2", "a", f"{np.mean(values):.2f}"]
    assert found[7][:2] == ["mean of 2", "b"]


def test_images_alone_are_measured_without_references(call, photo, tmp_path):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (200, 200, 3)))
    ended = call("eval", "x.png")
    assert (ended.code, ended.err) == (0, "")
    found = rows(ended.out)
    assert found[0] == ["picture", "NIQE", "BRISQUE", "PIQE"]
    assert found[2][:2] == ["x.png", f"{niqe(rgb(path)):.3f}"]


def test_json_is_one_object_a_line(call, pair, tmp_path):
    (tmp_path / "a/one.png").write_bytes((tmp_path / "ref/one.png").read_bytes())
    ended = call("eval", "a", "--reference", "ref", *FAST, "--json")
    assert ended.code == 0
    one, two, mean, used = lines(ended.out)
    assert one == {
        "kind": "picture",
        "picture": "one",
        "version": "a",
        "input": "a/one.png",
        "reference": "ref/one.png",
        "values": {"psnr": None, "ssim": 1.0},
        "notes": ["PSNR: infinite, because the images are equal"],
        "error": None,
    }
    good = psnr(rgb(tmp_path / "a/two.png"), rgb(tmp_path / "ref/two.png"))
    assert two["values"]["psnr"] == pytest.approx(good)
    assert (mean["kind"], mean["version"], mean["pictures"]) == ("mean", "a", 2)
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


def test_what_does_not_fit_is_one_line_and_the_rest_is_measured(call, photo, pair, tmp_path):
    photo("a/three.png", 30, 30)
    photo("ref/three.png", 31, 30)
    photo("a/four.png", 30, 30)
    (tmp_path / "a/one.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    ended = call("eval", "a", "--reference", "ref", *FAST)
    assert ended.code == 3
    assert [row[0] for row in rows(ended.out)[2:]] == ["two"]
    errors = ended.err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: a/") for line in errors)
    assert "error: a/four.png: has no reference: ref contains no image named four" in errors
    assert any("is 30x30, and its reference ref/three.png is 31x30" in line for line in errors)


def test_nothing_to_measure_is_a_failure(call, photo, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = call("eval", "empty")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: no images found; -r looks into folders of folders\n"
    ended = call("eval", "none.png")
    assert ended.code == 1 and "none.png: does not exist" in ended.err


def test_small_images_have_gaps_that_are_explained(call, photo):
    photo("x.png", 10, 10)
    ended = call("eval", "x.png", "--reference", "x.png", *FAST)
    assert ended.code == 0
    assert rows(ended.out)[2] == ["x.png", "inf"]
    assert "note: x.png: SSIM: 10x10 is smaller than SSIM's window of 11x11" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Missing command"),
        (("a", "--metrics", "psnr"), "psnr needs a reference: pass --reference"),
        (("a", "--metrics", "niqe,nope"), "unknown metric 'nope'"),
        (("a", "--metrics", ""), "unknown metric ''"),
        (("a", "--border", "-1"), "--border"),
        (("a", "--html", "page.txt"), "--html page.txt: is a page: end its name in .html"),
        (("a", "-o", "table.txt"), "-o table.txt: is a table: end its name in .csv"),
        (("-",), "no input"),
        (("models", "--on", "ref"), "NAME"),
        (("models", QUICK), "--on"),
        (("models", QUICK, "--on", "ref", "--degrade", "nope"), "nope: is none"),
        (("models", QUICK, QUICK + ".pth", "--on", "ref"), QUICK + ".pth"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_any_work(call, pair, made, arguments, told):
    ended = call("eval", *arguments)
    assert ended.code in (1, 2) and ended.out == "" and not made
    assert told in ended.err and ended.err.count("error: ") == 1


# --- tables and pages ------------------------------------------------------------------------


def test_a_table_and_a_page_are_written_too(call, pair, tmp_path):
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


def test_networks_and_bicubic_are_compared_with_the_originals(call, pair, made, tmp_path):
    ended = call("eval", "models", QUICK, ANIME, "--on", "ref", *FAST, "--html", "p.html")
    assert ended.code == 0, ended.err
    assert "2 images, made 4 times smaller by classical, seed 0" in ended.err
    found = rows(ended.out)
    names = ["bicubic", QUICK, ANIME]
    assert [row[:2] for row in found[2:8]] == [[p, name] for name in names for p in ("one", "two")]
    assert [row[:2] for row in found[8:]] == [["mean of 2", name] for name in names]
    # the stand-ins repeat pixels, which is worse than bicubic, and all alike
    assert float(found[8][2]) > float(found[9][2]) and found[9][2:] == found[10][2:]
    assert [upscaler.engine.model for upscaler in made] == [QUICK, ANIME]
    assert [size for upscaler in made for size in upscaler.sizes] == [(64, 48)] * 4
    page = (tmp_path / "p.html").read_text("utf-8")
    assert re.findall(r'<img alt="([^"]*)"', page) == ["reference", *names] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "p.html", "ref"]


def test_bicubic_is_bicubic(call, pair, tmp_path):
    assert (
        call("eval", "models", QUICK, "--on", "ref", *FAST, "--scale", "2", "--keep", "kept").code
        == 0
    )
    low = cv2.imread(str(tmp_path / "kept/set/lq/one.png"))
    assert low.shape == (24, 32, 3)
    from PIL import Image

    wanted = np.asarray(Image.fromarray(low).resize((64, 48), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "kept/bicubic/one.png")), wanted)


def test_the_seed_decides_and_the_networks_do_not(call, pair):
    def values(*arguments):
        ended = call("eval", "models", *arguments, "--on", "ref", "--degrade", "real-esrgan",
                     *FAST, "--json")  # fmt: skip
        assert ended.code == 0, ended.err
        return {
            (line["version"], line["picture"]): line["values"]
            for line in lines(ended.out)
            if line["kind"] == "picture"
        }

    first = values(QUICK)
    again = values(ANIME, QUICK)
    assert {key: again[key] for key in first} == first
    other = values(QUICK, "--seed", "1")
    assert all(other[key] != first[key] for key in first)


def test_json_tells_the_set_and_the_time_of_networks(call, pair):
    ended = call("eval", "models", QUICK, "--on", "ref", *FAST, "--json")
    found = lines(ended.out)
    assert found[0] == {"kind": "set", "chain": "classical", "scale": 4, "seed": 0, "pictures": 2}
    assert found[1]["kind"] == "network" and found[1]["version"] == QUICK
    assert found[1]["pictures"] == 2 and found[1]["seconds"] >= 0
    assert [line["kind"] for line in found[2:]] == ["picture"] * 4 + ["mean"] * 2 + ["metrics"]
    assert found[2]["input"] is None and found[2]["reference"] is None


def test_what_was_kept_is_gone_on_with(call, pair, made, photo, tmp_path):
    arguments = ("eval", "models", QUICK, "--on", "ref", *FAST, "--keep", "kept")
    first = call(*arguments)
    assert first.code == 0 and len(made) == 1 and len(made[0].sizes) == 2
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.png")}
    assert len(kept) == 8
    again = call(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert sum(len(upscaler.sizes) for upscaler in made) == 2
    photo("ref/three.png", 64, 48)
    (tmp_path / "ref/one.png").unlink()
    third = call(*arguments)
    assert [row[0] for row in rows(third.out)[2:6]] == ["three", "two"] * 2
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    other = call(*arguments, "--seed", "7")
    assert other.code == 1 and "was begun with another chain, scale or seed" in other.err


def test_a_recipe_says_how_images_become_small(call, pair):
    recipe = ROOT / "training/recipes/real-esrgan-x2.yaml"
    ended = call("eval", "models", QUICK, "--on", "ref", "--degrade", recipe, *FAST, "--json")
    assert ended.code == 0, ended.err
    found = lines(ended.out)[0]
    assert (found["chain"], found["scale"], found["pictures"]) == ("real-esrgan", 2, 2)


def test_a_network_that_fails_does_not_stop_the_others(call, pair, monkeypatch):
    make = work.make_upscaler

    def failing(engine, view):
        if engine.model == ANIME:
            raise CheckpointError("the file is damaged")
        return make(engine, view)

    monkeypatch.setattr(work, "make_upscaler", failing)
    ended = call("eval", "models", ANIME, QUICK, "--on", "ref", *FAST)
    assert ended.code == 3
    assert ended.err.count("error: ") == 1
    assert f"error: {ANIME}: the file is damaged" in ended.err
    assert {row[1] for row in rows(ended.out)[2:6]} == {"bicubic", QUICK}


def test_a_network_that_cannot_be_got_does_not_stop_the_others(call, pair, monkeypatch):
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    absent = "realesrnet-x4plus"
    if availability(catalog()[absent]) != "absent":
        pytest.skip(f"{absent} is here")
    arguments = ("eval", "models", absent, QUICK, "--on", "ref", *FAST, "--keep", "kept")
    ended = call(*arguments)
    assert ended.code == 3 and ended.err.count("error: ") == 1
    assert f"error: {absent}: " in ended.err
    assert {row[1] for row in rows(ended.out)[2:6]} == {"bicubic", QUICK}


def test_a_image_that_cannot_be_read_is_named(call, pair, tmp_path):
    (tmp_path / "ref/one.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    ended = call("eval", "models", QUICK, "--on", "ref", *FAST)
    assert ended.code == 3 and "error: ref/one.png" in ended.err
    assert [row[0] for row in rows(ended.out)[2:]] == ["two", "two"]


# --- the command -----------------------------------------------------------------------------


def test_metrics_are_listed(call):
    ended = call("eval", "metrics")
    assert ended.code == 0
    found = {row[0]: row for row in rows(ended.out)[1:]}
    assert found["psnr"] == ["psnr", "more", "a pair", "own; all channels, in dB", "yes"]
    assert found["niqe"][1:3] == ["less", "one"]
    assert found["lpips"][4].startswith("needs alexnet-owt-7be5be79.pth")
    listed = {line["name"]: line for line in lines(call("eval", "metrics", "--json").out)}
    assert listed.keys() == found.keys()
    assert listed["psnr"]["missing"] is None and "needs" in listed["dists"]["missing"]


def test_help_shows_both_ways(call, capsys):
    for arguments, told in [
        (("eval", "--help"), "models"),
        (("eval", "files", "--help"), "--reference"),
        (("eval", "models", "--help"), "--degrade"),
    ]:
        assert call(*arguments).code == 0
        assert told in capsys.readouterr().out


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
