"""Register photos of one scene that two cameras took, and cut pairs of patches from them.

Source: Ignatov et al., "DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks"
(ICCV 2017, arXiv 1704.02470), section 3: SIFT features, a homography by RANSAC, patches of 100
pixels, each moved to where its correlation is highest, and dropped if that is below 0.9.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.derive import DeriveResult
from upscale_training.data.index import images_below, stem_of
from upscale_training.data.parallel import check_apart, map_into_folder
from upscale_training.data.pixels import Pixels, read_rgb, write_png

PHONE_FOLDER, CAMERA_FOLDER = "phone", "camera"
"""Names of the folders of the pairs."""

Homography: TypeAlias = NDArray[np.float64]
"""Array of shape (3, 3): from pixels of the camera's image to those of the phone's."""

_LONGEST_SIDE = 1600
"""Features are searched in images that are scaled down to this side, in pixels."""

_RATIO = 0.8
"""Largest ratio of the distances to the best and to the second best match (Lowe, 2004)."""

_TOLERANCE = 2.0
"""Distance of a match from where the homography puts it, in pixels of the scaled-down image."""

_FEWEST_MATCHES = 20

_FLAT = 2.0
"""Standard deviation of a patch, in levels, below which its correlation is that of its noise."""


@dataclass(frozen=True, slots=True)
class Registration:
    """How patches are cut from registered images.

    Attributes:
        size: Side of a patch in pixels.
        threshold: Lowest normalised cross-correlation of a pair, 0..1.
        shift: Largest distance in pixels over which a patch is moved.
    """

    size: int = 100
    threshold: float = 0.9
    shift: int = 5


DEFAULT = Registration()


def find_homography(camera: Pixels, phone: Pixels) -> Homography:
    """Find the homography between two photos of one scene.

    Args:
        camera: Image of shape (H, W, 3), uint8, RGB.
        phone: Image of shape (H', W', 3), uint8, RGB.

    Returns:
        Homography from pixels of `camera` to those of `phone`.

    Raises:
        ImageError: Too few features match.

    Example:
        >>> import numpy as np
        >>> import cv2
        >>> noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        >>> image = cv2.resize(noise, (400, 300), interpolation=cv2.INTER_CUBIC)
        >>> (find_homography(image, image[8:, 16:]) @ [100, 100, 1]).round().astype(int)
        array([84, 92,  1])
    """
    (points, features, shrunk), (others, other_features, other_shrunk) = map(
        _features, (camera, phone)
    )
    pairs = _matches(features, other_features)
    if len(pairs) < _FEWEST_MATCHES:
        raise ImageError(f"only {len(pairs)} features match; the photos must show the same scene")
    first = np.array([points[one] for one, _ in pairs], np.float32)
    second = np.array([others[other] for _, other in pairs], np.float32)
    cv2.setRNGSeed(0)
    # OpenCV does not say that it returns None if it finds nothing.
    found, inliers = cast(Any, cv2).findHomography(
        first, second, cv2.RANSAC, _TOLERANCE, maxIters=10_000
    )
    count = 0 if found is None else int(inliers.sum())
    if found is None or count < _FEWEST_MATCHES or not _is_plausible(found, camera.shape):
        raise ImageError(
            f"{count} of {len(pairs)} matching features agree; the photos must show the same scene"
        )
    return np.linalg.inv(_scaling(other_shrunk)) @ found.astype(np.float64) @ _scaling(shrunk)


def cut_pairs(
    phone: Pixels, camera: Pixels, homography: Homography, settings: Registration
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield pairs of patches, of the phone's and of the camera's image, row by row.

    Args:
        phone: Image of shape (H, W, 3), uint8, RGB.
        camera: Image of shape (H', W', 3), uint8, RGB.
        homography: Homography from pixels of `camera` to those of `phone`.
        settings: Size of the patches, and how alike they must be.
    """
    warped, covered = _warped(camera, homography, phone.shape[:2])
    grey, warped_grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (phone, warped))
    size, reach = settings.size, settings.shift
    height, width = phone.shape[:2]
    for top in range(reach, height - size - reach + 1, size):
        for left in range(reach, width - size - reach + 1, size):
            inner = slice(top, top + size), slice(left, left + size)
            outer = slice(top - reach, top + size + reach), slice(left - reach, left + size + reach)
            if not covered[outer].all() or grey[inner].std() < _FLAT:
                continue
            scores = cv2.matchTemplate(warped_grey[outer], grey[inner], cv2.TM_CCOEFF_NORMED)
            _, best, _, (across, down) = cv2.minMaxLoc(scores)
            if best >= settings.threshold:
                moved = warped[outer][down : down + size, across : across + size]
                yield phone[inner], moved


def register(
    phone: Path,
    camera: Path,
    names: Sequence[str],
    target: Path,
    *,
    settings: Registration = DEFAULT,
    jobs: int = 1,
) -> Generator[tuple[str, DeriveResult | Exception]]:
    """Write pairs of patches, and yield the result of each photo of the phone.

    The folders `phone` and `camera` of the target get patches of the same names. Existing patches
    are kept, so an interrupted run resumes when it is repeated.

    Args:
        phone: Folder of the phone's photos.
        camera: Folder of the camera's photos, with the same names apart from the suffix.
        names: Names of the phone's photos, relative to their folder.
        target: New folder, or the folder of an interrupted run.
        settings: Size of the patches, and how alike they must be.
        jobs: Number of processes.

    Raises:
        UsageError: The target is inside one of the folders.
        OutputError: The target contains something else, or cannot be created.
        TrainingError: The folder of the camera contains no images.
    """
    check_apart(camera, target)
    partners = {stem_of(name): name for name in images_below(camera)}
    if not partners:
        raise TrainingError(f"{printable(camera)}: contains no images; name another folder")
    claim = {"made": "registered pairs", "camera": str(camera.resolve()), **asdict(settings)}
    work = partial(_register, (phone, camera, target), partners, settings)
    return map_into_folder(work, names, phone, target, settings=claim, jobs=jobs)


def _register(
    folders: tuple[Path, Path, Path], partners: dict[str, str], settings: Registration, name: str
) -> DeriveResult:
    phone_folder, camera_folder, target = folders
    partner = partners.get(stem_of(name))
    if partner is None:
        raise ImageError(f"{printable(phone_folder / name)}: has no photo of the same name in "
                         f"{printable(camera_folder)}")  # fmt: skip
    phone, camera = read_rgb(phone_folder / name), read_rgb(camera_folder / partner)
    try:
        homography = find_homography(camera, phone)
    except ImageError as error:
        raise ImageError(f"{printable(phone_folder / name)}: {error}") from error
    written = kept = 0
    for number, pair in enumerate(cut_pairs(phone, camera, homography, settings), 1):
        for folder, patch in zip((PHONE_FOLDER, CAMERA_FOLDER), pair, strict=True):
            file = target / folder / f"{stem_of(name)}_{number:04}.png"
            if file.exists():
                kept += 1
            else:
                write_png(np.ascontiguousarray(patch), file)
                written += 1
    return DeriveResult(written // 2 + written % 2, kept // 2)


def _features(
    image: Pixels,
) -> tuple[list[tuple[float, float]], NDArray[np.float32] | None, float]:
    """Return places and descriptors of features, and the factor that the image was scaled by."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    factor = min(_LONGEST_SIDE / max(grey.shape), 1.0)
    if factor < 1:
        size = round(grey.shape[1] * factor), round(grey.shape[0] * factor)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    places, descriptors = cast(Any, cv2).SIFT_create().detectAndCompute(grey, None)
    points = [(float(place.pt[0]), float(place.pt[1])) for place in places]
    return points, None if descriptors is None else descriptors.astype(np.float32), factor


def _matches(
    features: NDArray[np.float32] | None, others: NDArray[np.float32] | None
) -> list[tuple[int, int]]:
    """Return pairs of features that are clearly more alike than any other pair."""
    if features is None or others is None or len(others) < 2:
        return []
    found = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, others, k=2)
    return [
        (best.queryIdx, best.trainIdx)
        for best, second in found
        if best.distance < _RATIO * second.distance
    ]


def _scaling(factor: float) -> Homography:
    """Return the homography from an image to one scaled down, whose pixel centres are moved."""
    offset = (factor - 1) / 2
    return np.array([[factor, 0, offset], [0, factor, offset], [0, 0, 1]])


def _is_plausible(homography: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Return whether the image stays a convex figure that is not mirrored, and not tiny."""
    height, width = shape[:2]
    corners = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], np.float32)
    moved = cv2.perspectiveTransform(corners, homography)
    signed = cv2.contourArea(moved, oriented=True)
    same_turn = signed * cv2.contourArea(corners, oriented=True) > 0
    return bool(cv2.isContourConvex(moved) and same_turn and abs(signed) > 100)


def _warped(
    camera: Pixels, homography: Homography, size: tuple[int, int]
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the camera's image on the grid of the phone's, and where it covers it.

    An image with more pixels than the other is scaled down first, so that it does not alias.
    """
    middle = np.array([camera.shape[1] / 2, camera.shape[0] / 2, 1.0])
    factor = _local_scale(homography, middle)
    if factor < 1:
        width, height = (max(round(side * factor), 1) for side in camera.shape[1::-1])
        ratios = width / camera.shape[1], height / camera.shape[0]
        shrink = np.diag([*ratios, 1.0])
        shrink[:2, 2] = [(ratio - 1) / 2 for ratio in ratios]
        camera = _levels(cv2.resize(camera, (width, height), interpolation=cv2.INTER_AREA))
        homography = homography @ np.linalg.inv(shrink)
    shape = size[1], size[0]
    warped = cv2.warpPerspective(camera, homography, shape, flags=cv2.INTER_CUBIC)
    inside = np.full(camera.shape[:2], 255, np.uint8)
    covered = cv2.warpPerspective(inside, homography, shape, flags=cv2.INTER_LINEAR)
    return _levels(warped), covered == 255


def _levels(image: NDArray[Any]) -> Pixels:
    """Return what OpenCV made of an 8-bit image, as it describes it less narrowly."""
    return image.astype(np.uint8, copy=False)


def _local_scale(homography: Homography, point: NDArray[np.float64]) -> float:
    """Return by how much a homography scales lengths near a point."""
    x, y, w = homography @ point
    rows = homography[:2, :2]
    jacobian = (rows * w - np.outer([x, y], homography[2, :2])) / w**2
    return float(np.sqrt(abs(np.linalg.det(jacobian))))
