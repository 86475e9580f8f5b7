from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
import torch

from benchmarks.video import (
    CONTENDERS,
    OFFICIAL,
    OURS,
    SCALE,
    STEPS,
    lengthened,
    measure_here,
    official_image,
    print_shares,
    print_speed,
)
from tests.video.clips import Clip, even, make
from upscale.video.probe import probe


@pytest.fixture
def clip(tmp_path):
    return make(Clip(even(6)), tmp_path / "in.mp4")


def test_all_contenders_process_all_frames_and_tables_have_all_columns(clip, capsys):
    contenders = [each for each in CONTENDERS if each != OFFICIAL or shutil.which("ffmpeg")]
    runs = {each: [measure_here(each, clip, 6, "repeated")] for each in contenders}
    ours = runs[OURS][0]
    assert 0 < sum(ours[step] for step in STEPS) < ours["seconds"]
    print_speed("repeated", 6, runs)
    print_shares("repeated", runs)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(contenders) + 1
    assert [line.count("|") for line in lines] == [10] * len(contenders) + [8]


def test_official_loop_orders_channels_and_rounds_like_the_official_program(clip):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (6, 8, 3), np.uint8)
    shown = []

    def upscale(rgb):
        shown.append(rgb)
        return torch.nn.functional.interpolate(rgb, scale_factor=SCALE)

    large = official_image(image, upscale)
    size = (8 * SCALE, 6 * SCALE)
    assert np.array_equal(large, cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))
    assert torch.equal(shown[0][0, 0], torch.from_numpy(image[:, :, 2] / np.float32(255)))


def test_lengthened_video_has_the_requested_number_of_frames(clip, tmp_path):
    assert len(probe(lengthened(clip, tmp_path / "long.mp4", 20)).frame_times) == 20
