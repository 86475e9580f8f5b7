"""Registration of photos by two cameras, on photos that are warped by a known homography."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.data.register import (
    CAMERA_FOLDER,
    PHONE_FOLDER,
    Registration,
    cut_pairs,
    find_homography,
    register,
)

from upscale.errors import ImageError, OutputError, UsageError


@pytest.fixture(scope="module")
def scene(data):
    """A photograph of several hundred pixels: parts of four, side by side."""
    files = sorted((data / "photos/scenes").glob("*.webp"))[:4]
    parts = [cv2.resize(read_rgb(file)[:256, :256], (300, 300)) for file in files]
    return np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])


def homography(scale=1.0, angle=4.0, tilt=1e-4, x=12.3, y=-7.6):
    """A rotation about a corner, a scale, a shift and a tilt."""
    turn = np.deg2rad(angle)
    return np.array(
        [
            [scale * np.cos(turn), -scale * np.sin(turn), x + 40],
            [scale * np.sin(turn), scale * np.cos(turn), y],
            [tilt, tilt / 2, 1],
        ]
    )


def phone_photo(scene, matrix, size=(560, 540), brightness=0.7, noise=2.0):
    """The scene as the other camera sees it: warped, darker, with noise."""
    warped = cv2.warpPerspective(scene, matrix, size, flags=cv2.INTER_AREA).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, noise, warped.shape)
    return (warped * brightness + noise).round().clip(0, 255).astype(np.uint8)


def corner_error(found, matrix, scene):
    height, width = scene.shape[:2]
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    moved = (cv2.perspectiveTransform(corners, each) for each in (found, matrix))
    return np.linalg.norm(np.subtract(*moved), axis=-1).max()


@pytest.mark.parametrize("angle", [0, -8, 20])
def test_a_known_homography_is_found_to_half_a_pixel(scene, angle):
    matrix = homography(angle=angle)
    found = find_homography(scene, phone_photo(scene, matrix))
    assert corner_error(found, matrix, scene) < 0.5


def test_a_camera_with_more_pixels_is_registered(scene):
    """Both photos are scaled down to search features, and pixel centres stay in place."""
    large = cv2.resize(scene, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    matrix = homography()
    found = find_homography(large, phone_photo(scene, matrix))
    # The centre of pixel 0 is at 1.5 in the large image.
    enlarge = np.array([[4, 0, 1.5], [0, 4, 1.5], [0, 0, 1]])
    assert corner_error(found @ enlarge, matrix, scene) < 0.6


@pytest.mark.parametrize("factor", [1, 3])
def test_pairs_show_the_same_and_are_aligned(scene, factor):
    camera = cv2.resize(scene, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    phone = phone_photo(scene, homography())
    pairs = list(cut_pairs(phone, camera, find_homography(camera, phone), Registration(64)))
    assert len(pairs) > 15
    for low, high in pairs:
        assert low.shape == high.shape == (64, 64, 3) and low.dtype == high.dtype == np.uint8
        a, b = (each.mean(2).ravel() for each in (low, high))
        assert np.corrcoef(a, b)[0, 1] > 0.9
        (dx, dy), _ = cv2.phaseCorrelate(*(each.mean(2) - each.mean() for each in (low, high)))
        assert np.hypot(dx, dy) < 0.5
        assert 1.2 < high.mean() / low.mean() < 1.7, "the camera's brightness is kept"


def test_a_patch_is_moved_to_where_it_correlates_most(scene):
    phone = scene[100:400, 100:400]
    shifted = np.array([[1.0, 0, -97], [0, 1, -104], [0, 0, 1]])  # 3 right and 4 up of the truth
    pairs = list(cut_pairs(phone, scene, shifted, Registration(64)))
    assert len(pairs) > 6
    assert all(np.array_equal(low, high) for low, high in pairs)


def test_different_and_flat_parts_are_dropped(scene):
    phone = scene[:300, :300].copy()
    phone[:150] = scene[300:450, 300:600]  # another scene
    phone[150:, 150:] = 128
    pairs = list(cut_pairs(phone, scene, np.eye(3), Registration(64)))
    assert 1 <= len(pairs) <= 4
    assert all(low.std() > 2 for low, _ in pairs)


def test_patches_stay_inside_what_both_photos_show(scene):
    matrix = homography(angle=30, x=150)
    for low, high in cut_pairs(phone_photo(scene, matrix), scene, matrix, Registration(64, 0.0)):
        assert (low > 0).mean() > 0.9 and (high > 0).mean() > 0.9


@pytest.mark.parametrize("other", ["scene", "flat", "noise"])
def test_photos_of_different_scenes_are_refused(scene, other):
    images = {
        "scene": scene[300:],
        "flat": np.full_like(scene, 90),
        "noise": np.random.default_rng(0).integers(0, 256, scene.shape, np.uint8),
    }
    with pytest.raises(ImageError, match="same scene"):
        find_homography(images[other], scene[:300])


@pytest.fixture
def folders(scene, tmp_path):
    for name in ("a", "sub/b"):
        write_png(phone_photo(scene, homography()), tmp_path / "phone" / f"{name}.png")
        write_png(scene, tmp_path / "camera" / f"{name}.png")
    write_png(scene, tmp_path / "phone" / "alone.png")
    return tmp_path / "phone", tmp_path / "camera"


def test_pairs_have_the_same_names_in_both_folders(folders, tmp_path):
    names = ["a.png", "sub/b.png", "alone.png"]
    settings = Registration(100)
    results = dict(register(*folders, names, tmp_path / "out", settings=settings))
    assert isinstance(results["alone.png"], ImageError)
    assert "no photo of the same name" in str(results["alone.png"])
    found = {
        side: sorted(
            path.relative_to(tmp_path / "out" / side)
            for path in (tmp_path / "out" / side).rglob("*.png")
        )
        for side in (PHONE_FOLDER, CAMERA_FOLDER)
    }
    assert found[PHONE_FOLDER] == found[CAMERA_FOLDER]
    assert len(found[PHONE_FOLDER]) == 2 * results["a.png"].written > 6
    assert str(found[PHONE_FOLDER][0]) == "a_0001.png"


def test_an_interrupted_run_is_completed(folders, tmp_path):
    def run(**settings):
        options = Registration(100, **settings)
        return dict(register(*folders, ["a.png"], tmp_path / "out", settings=options))["a.png"]

    first = run()
    lost = tmp_path / "out" / CAMERA_FOLDER / "a_0002.png"
    before = lost.read_bytes()
    lost.unlink()
    second = run()
    assert (second.written, second.kept) == (1, first.written - 1)
    assert lost.read_bytes() == before
    with pytest.raises(OutputError, match="other inputs or settings"):
        run(threshold=0.5)


def test_the_output_is_outside_of_both_inputs(folders):
    for folder in folders:
        with pytest.raises(UsageError, match="is inside"):
            list(register(*folders, ["a.png"], folder / "out"))
