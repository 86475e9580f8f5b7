"""WebP and H.264 as steps of degradation chains, on a photograph."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from upscale_training.codecs import VideoCompression, VideoStep, WebP, WebPStep, compress_video
from upscale_training.degradation import Degradation, apply
from upscale_training.degradation.randomness import NumpyRandomness

from upscale.errors import UsageError


@pytest.fixture(scope="module")
def photo(data):
    path = sorted((data / "photos/scenes").glob("*.webp"))[0]
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[60:128, 40:120]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None] / 255


def error(result, image):
    return (result - image).square().mean().sqrt().item() * 255


def test_webp_is_that_of_pillow(photo):
    pixels = (photo[0] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", quality=40)
    expected = np.asarray(Image.open(file).convert("RGB"))
    result = apply(photo, [Degradation((WebP(40.0),))])
    ours = (result[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).mean() < 1  # the libraries may differ in version


@pytest.mark.parametrize(
    ("better", "worse"),
    [(WebP(90), WebP(20)), (VideoCompression(15, 1, -2), VideoCompression(38, 1, -2))],
)
def test_worse_settings_are_worse(photo, better, worse):
    results = [apply(photo, [Degradation((each,))]) for each in (better, worse)]
    errors = [error(each, photo) for each in results]
    assert 0 < errors[0] < errors[1] < 40


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 17)])
@pytest.mark.parametrize("operation", [WebP(50), VideoCompression(30, -3, 5)])
def test_every_size_is_kept_and_images_do_not_influence_each_other(photo, size, operation):
    image = photo[..., : size[0], : size[1]]
    both = torch.cat([image, image.flip(3)])
    result = apply(both, [Degradation((operation,))] * 2)
    assert result.shape == both.shape
    assert torch.equal(result[:1], apply(image, [Degradation((operation,))]))


def test_motion_changes_what_is_predicted(photo):
    still = compress_video(photo, [VideoCompression(35)])
    moved = compress_video(photo, [VideoCompression(35, 3, -4)])
    assert not torch.equal(still, moved)
    assert error(moved, photo) < 30  # a frame that had moved would be far away


def test_a_video_at_the_best_quality_stays_at_its_place(photo):
    flat = torch.nn.functional.avg_pool2d(photo, 5, 1, 2)  # chroma is halved
    result = compress_video(flat, [VideoCompression(1, 6, 6)])
    assert error(result, flat) < 4


def test_steps_sample_inside_their_ranges_and_describe_themselves():
    own = NumpyRandomness(np.random.default_rng(0))
    for _ in range(50):
        (webp,) = WebPStep(quality=(20, 40)).sample(own, own, 4)
        (video,) = VideoStep(crf=(20, 30), motion=2).sample(own, own, 4)
        assert 20 <= webp.quality <= 40
        assert 20 <= video.crf <= 30 and max(abs(video.rows), abs(video.columns)) <= 2
    VideoStep().prepare()
    degradation = Degradation((webp, video))
    assert Degradation.from_dict(degradation.as_dict()) == degradation
    assert str(degradation) == f"webp {webp.quality:.0f}\nh264 crf {video.crf:.0f}"
    assert WebPStep(probability=0).sample(own, own, 4) == ()


def test_the_official_mode_has_neither():
    with pytest.raises(UsageError, match="do webp"):
        Degradation((WebP(50),), "official")
