"""`-n auto` on the command line, with small networks in place of the real ones."""

from __future__ import annotations

import json

import cv2
import pytest

from tests.video.clips import make_kind
from upscale import selection
from upscale.cli import bench
from upscale.engine.loading import Model
from upscale.models import SRVGGSpec
from upscale.selection.choice import CLEAN, DAMAGED, DRAWING, Choice
from upscale.video.segments import SegmentStore


@pytest.fixture
def loaded(monkeypatch, random_network):
    """Replace the networks by small ones; return the names of those that were loaded."""
    names = []

    def load(name, **options):
        names.append(name)
        network = random_network(SRVGGSpec(4, features=8, convolutions=2), len(name))
        return Model.from_network(name, network)

    monkeypatch.setattr("upscale.engine.loading.load_model", load)
    return names


@pytest.fixture
def chosen(monkeypatch):
    """Replace the decision; return the samples it is asked about."""
    asked = []

    def choose(samples, probe):
        asked.append(samples)
        return Choice({CLEAN: 0.25, DAMAGED: 0.75}, "between the two", False)

    monkeypatch.setattr(selection, "choose", choose)
    return asked


@pytest.fixture
def call(real_call, loaded):
    return real_call


def test_the_line_says_which_network_and_why(call, photo, loaded):
    pixels = cv2.imread(str(photo("a.png", 96, 64)))
    cv2.imwrite("a.jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])
    ended = call("a.jpg", "-t", "32")
    assert (ended.code, ended.out) == (0, "a_x4.jpg\n"), ended.err
    assert f"({DAMAGED}: JPEG quality 40; cpu fp32, tile 32)" in ended.err
    assert loaded == [DAMAGED]
    ended = call("a.jpg", "-n", "realesr-animevideov3", "-o", "b.png", "-t", "32")
    assert "(realesr-animevideov3, cpu fp32, tile 32)" in ended.err


def test_json_has_the_choice(call, photo, chosen):
    photo("a.png")
    record = json.loads(call("a.png", "--json").out)
    assert record["model"] == f"{CLEAN} + {DAMAGED}"
    assert record["choice"] == {
        "weights": {CLEAN: 0.25, DAMAGED: 0.75},
        "reason": "between the two",
        "clean": False,
    }
    assert len(chosen) == 1
    record = json.loads(call("a.png", "--json", "-n", "realesr-animevideov3", "--overwrite").out)
    assert (record["model"], record["choice"]) == ("realesr-animevideov3", None)


def test_a_fidelity_may_come_from_the_environment(call, photo, loaded):
    photo("a.png")
    ended = call("a.png", "--json", env={"UPSCALE_FIDELITY": "0.5"})
    assert json.loads(ended.out)["choice"]["weights"] == {CLEAN: 0.5, DAMAGED: 0.5}
    assert loaded == [CLEAN, DAMAGED]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-n", "realesrgan-x4plus", "--fidelity", "0.5"], "--fidelity 0.5 needs -n auto"),
        (["--fidelity", "2"], "--fidelity: 2 is not between 0 and 1"),
        (["--denoise", "0.5"], "--denoise is not supported by auto; the networks with it: "),
    ],
)
def test_invalid_requests_are_one_line(flags, message, call, photo):
    photo("a.png")
    ended = call("a.png", *flags)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert message in ended.err


def test_a_dry_run_reads_no_pixels(call, photo, loaded, chosen):
    photo("a.png")
    record = json.loads(call("a.png", "--dry-run", "--json").out)
    assert (record["model"], record["choice"], record["size_out"]) == ("auto", None, [96, 64])
    assert call("a.png", "--name", "{stem}-{model}.{ext}").out == "a-auto.png\n"
    assert len(chosen) == 1


def test_a_normal_map_is_upscaled_without_a_choice(call, photo, chosen, loaded):
    photo("a.png")
    record = json.loads(call("a.png", "--normal-map", "--json").out)
    assert record["choice"]["weights"] == {DAMAGED: 1.0}
    assert (chosen, loaded) == ([], [DAMAGED])


def test_a_page_compares_auto_by_the_whole_image(call, photo, chosen, tmp_path):
    photo("a.png", 96, 64)
    models = "auto,realesr-animevideov3"
    ended = call("a.png", "--models", models, "--crop", "8,8,32,24", "-o", "page.html")
    assert ended.code == 0, ended.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"{CLEAN} + {DAMAGED}: between the two" in page
    assert [samples[0].pixels.shape for samples in chosen] == [(64, 96, 3)]


def test_auto_is_evaluated_among_networks(call, photo, chosen, loaded):
    photo("gt/a.png", 64, 64)
    ended = call("eval", "models", "auto", "--on", "gt", "--metrics", "psnr", "--json")
    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert {record.get("version") for record in records} >= {"auto", "bicubic"}
    assert set(loaded) == {CLEAN, DAMAGED}


def test_auto_is_measured_as_its_networks():
    names = bench._without_auto(["auto", CLEAN, "mine.pth"])
    assert names == [CLEAN, DAMAGED, DRAWING, "mine.pth"]


def test_a_video_says_what_was_chosen(call, chosen, tmp_path):
    make_kind("cfr", tmp_path).rename(tmp_path / "in.mp4")
    ended = call("video", "in.mp4", "out.mkv", "-n", "auto", "--frames", "2", "--json")
    assert ended.code == 0, ended.err
    record = json.loads(ended.out)
    assert record["model"] == f"{CLEAN} + {DAMAGED}"
    assert record["choice"]["reason"] == "between the two"
    assert f"note: upscaling with {CLEAN} + {DAMAGED}: between the two" in ended.err
    record = json.loads(call("video", "in.mp4", "--preview", "-n", "auto", "--json").out)
    assert record["choice"]["reason"] == "between the two"
    assert [len(samples) for samples in chosen] == [8, 8]


def test_a_video_is_not_resumed_with_another_fidelity(call, tmp_path):
    make_kind("cfr", tmp_path).rename(tmp_path / "in.mp4")

    def stop(self, *arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentStore, "finish", stop)
        assert call("video", "in.mp4", "out.mkv", "--fidelity", "0.2").code == 130
    ended = call("video", "in.mp4", "out.mkv", "--fidelity", "0.3")
    assert ended.code == 1
    assert "was started with another fidelity" in ended.err
