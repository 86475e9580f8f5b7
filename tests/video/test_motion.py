from __future__ import annotations

import cv2
import numpy as np
import pytest

from upscale.video.motion import Motion, MotionEstimator
from upscale.video.planes import plane_format


@pytest.fixture(scope="module")
def kitten(data) -> np.ndarray:
    return cv2.imread(str(data / "photos" / "kitten.webp"), cv2.IMREAD_GRAYSCALE)


def cut(image: np.ndarray, x: int, y: int, width: int = 96, height: int = 72) -> np.ndarray:
    return np.ascontiguousarray(image[200 + y : 200 + y + height, 400 + x : 400 + x + width])


def motion(before: np.ndarray, now: np.ndarray, name: str = "gray") -> Motion | None:
    estimator = MotionEstimator(plane_format(name))
    assert estimator.next([before], is_consecutive=False) is None
    return estimator.next([now], is_consecutive=True)


@pytest.mark.parametrize("step", [(3, 0), (0, -2), (-5, 4)])
def test_a_shift_is_found(kitten, step):
    found = motion(cut(kitten, 10, 10), cut(kitten, 10 + step[0], 10 + step[1]))
    middle = slice(16, -16), slice(16, -16)
    assert np.abs(found.flow[middle] - step).max() < 0.3
    assert found.trust[middle].min() > 0.95
    edge = found.trust[:, -1] if step[0] > 0 else found.trust[:, 0]
    if step[0]:
        assert edge[10:-10].max() < 0.7  # it was outside the frame


def test_noise_of_a_still_scene_is_not_taken_for_motion(kitten):
    rng = np.random.default_rng(0)
    scene = cut(kitten, 0, 0).astype(float)
    before, now = (
        (scene + rng.normal(0, 2.5, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(2)
    )
    found = motion(before, now)
    assert np.mean((found.flow == 0).all(2)) > 0.8
    assert np.mean(found.trust > 0.9) > 0.9


def test_what_an_object_has_hidden_is_not_trusted(kitten):
    scene = cut(kitten, 0, 0) // 2
    before, now = scene.copy(), scene.copy()
    thing = cut(kitten, 50, 60, 24, 24) // 4 + 190
    before[24:48, 30:54], now[24:48, 40:64] = thing, thing
    found = motion(before, now)
    assert found.trust[27:45, 31:38].max() < 0.3
    assert found.trust[:, 72:].min() > 0.9
    assert np.abs(found.flow[30:42, 46:58] - (-10, 0)).max() < 0.5


def test_a_new_scene_has_no_motion(kitten):
    assert motion(cut(kitten, 0, 0), cut(kitten[::-1], 100, 0)) is None
    estimator = MotionEstimator(plane_format("gray"))
    frames = [cut(kitten, step, 0) for step in range(3)]
    estimator.next([frames[0]], is_consecutive=False)
    assert estimator.next([frames[1]], is_consecutive=False) is None
    assert estimator.next([frames[2]], is_consecutive=True) is not None


def test_the_number_of_threads_makes_no_difference(kitten):
    before, threads = cv2.getNumThreads(), []
    try:
        for count in (1, 2, 7):
            cv2.setNumThreads(count)
            threads.append(motion(cut(kitten, 0, 0, 200, 160), cut(kitten, 4, 3, 200, 160)))
    finally:
        cv2.setNumThreads(before)
    for other in threads[1:]:
        assert np.array_equal(other.flow, threads[0].flow)
        assert np.array_equal(other.trust, threads[0].trust)


def test_planes_of_every_kind_show_the_same_motion(kitten):
    frames = cut(kitten, 0, 0), cut(kitten, 2, 1)
    expected = motion(*frames)
    deep = motion(*(frame.astype(np.uint16) << 4 for frame in frames), name="gray12le")
    estimator = MotionEstimator(plane_format("gbrp"))
    estimator.next([frames[0]] * 3, is_consecutive=False)
    rgb = estimator.next([frames[1]] * 3, is_consecutive=True)
    for each in (deep, rgb):
        assert np.array_equal(each.flow, expected.flow)


@pytest.mark.parametrize("size", [(1, 1), (2, 8), (16, 12), (63, 200)])
def test_small_frames(size, kitten):
    frame = cut(kitten, 0, 0, *size)
    found = motion(frame, frame)
    assert found.flow.shape == (size[1], size[0], 2) and not found.flow.any()
    assert found.trust.min() > 0.99
