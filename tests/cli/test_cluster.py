"""`--cluster` on the command line, with a stand-in for Ray: it gives what one machine gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.jobs import fake_ray
from tests.jobs.test_video import decoded
from tests.video.clips import Clip, even, make
from upscale.checkpoints import write_safetensors
from upscale.models import SRVGGSpec

NODES = ("one", "two")
NET = ("-n", "net.safetensors")


@pytest.fixture
def call(real_call, random_network, monkeypatch):
    """The command line, in a folder with a network, on a cluster of two machines."""
    network = random_network(SRVGGSpec(2, features=8, convolutions=1))
    write_safetensors(network.state_dict(), Path("net.safetensors"), {})
    fake_ray.install(monkeypatch, *NODES)
    return real_call


@pytest.fixture
def faces(call, data):
    """A folder with a photo with a face, one without, and a damaged one."""
    folder = Path("in")
    folder.mkdir()
    with Image.open(data / "photos/faces/girl.webp") as girl:
        girl.resize((girl.width // 2, girl.height // 2)).save(folder / "girl.png")
    with Image.open(data / "photos/scenes/sand.webp") as sand:
        sand.crop((0, 0, 40, 30)).save(folder / "sand.png")
    (folder / "bad.png").write_bytes((folder / "sand.png").read_bytes()[:200])
    return folder


def lines(ended, folder):
    """Return the objects of `--json` without times and the folder of outputs."""
    text = ended.out.replace(f"{folder}/", "")
    return [json.loads(line) | {"seconds": None} for line in text.splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("options", [NET, ("--faces-only", "--face-model", "none"),
                                     (*NET, "--face", "--face-model", "none")])  # fmt: skip
def test_images_and_their_faces(call, faces, options):
    here = call("in", "-o", "here/", "--json", *options)
    there = call("in", "-o", "there/", "--json", *options, "--cluster", "auto")
    assert (here.code, there.code) == (3, 3), there.err
    assert lines(there, "there") == lines(here, "here")
    assert contents("there") == contents("here")


def test_a_video(call, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 3)
    make(Clip(even(7), size=(32, 24)), Path("in.mp4"))
    arguments = ("video", "in.mp4", *NET, "--codec", "ffv1", "--json", "-v")
    here = call(*arguments, "here/out.mkv")
    there = call(*arguments, "there/out.mkv", env={"UPSCALE_CLUSTER": "auto"})
    assert (here.code, there.code) == (0, 0), there.err
    times = dict.fromkeys(("waited_for_reading", "waited_for_writing"))
    assert [each | times for each in lines(there, "there")] == [
        each | times for each in lines(here, "here")
    ]
    assert decoded(Path("there/out.mkv")) == decoded(Path("here/out.mkv"))
    assert "note: computing on 2 workers: one, two" in there.err
    assert here.err.splitlines()[-1] == there.err.splitlines()[-1]  # the kernels


def test_a_video_that_cannot_be_read_to_its_end(call, monkeypatch):
    """The streams of the output are planned here, and the frames are computed there."""
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 3)
    path = make(Clip(even(9), size=(32, 24), container="mkv"), Path("in.mkv"))
    path.write_bytes(path.read_bytes()[:-600])
    arguments = ("video", "in.mkv", *NET, "--codec", "ffv1", "--json")
    here, there = (
        call(*arguments, "here/out.mkv"),
        call(*arguments, "there/out.mkv", "--cluster", "auto"),
    )
    assert here.code == there.code
    assert [each["lost"] for each in lines(here, "here")] == [
        each["lost"] for each in lines(there, "there")
    ]


def test_a_comparison_of_networks(call, faces):
    (faces / "bad.png").unlink()
    shutil.copy("net.safetensors", "other.safetensors")
    arguments = ("eval", "models", "net.safetensors", "other.safetensors", "--on", "in", "--json",
                 "--degrade", "classical", "--metrics", "psnr-y")  # fmt: skip
    here, there = call(*arguments), call(*arguments, "--cluster", "auto", "--workers", "1")
    assert (here.code, there.code) == (0, 0), there.err
    assert lines(there, "") == lines(here, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("video", "in.mp4", "out.mp4", "--workers", "2"), "--workers needs --cluster"),
        (("video", "in.mp4", "--preview", "--cluster", "auto"), "computed on this machine"),
        (("video", "in.mp4", "o.mp4", "--estimate", "--cluster", "auto"), "of this machine"),
        (("video", "in", "o.mp4", "--fps", "24", "--cluster", "auto"), "workers read videos only"),
        (("video", "in.mp4", "-", "--cluster", "auto"), "--cluster needs an output file, not -"),
        (("video", "in.mp4", "o.mp4", "--cluster", "auto", "--device", "cuda:0,cuda:1"),
         "each worker of a cluster has one"),
        (("eval", "models", "net.safetensors", "--on", "in", "--workers", "2"),
         "--workers needs --cluster"),
    ],
)  # fmt: skip
def test_impossible_requests_are_usage_errors(call, arguments, text):
    ended = call(*arguments)
    assert ended.code == 2 and text in ended.err
