from __future__ import annotations

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from upscale.errors import DependencyError
from upscale.metrics import MetricError, Resources, metrics, text
from upscale.metrics.text import CharacterErrorRate, edit_distance

LINES = (
    "Networks enlarge images and",
    "keep 128 small letters legible:",
    "Brown fox, lazy dog 947",
)
LENGTH = sum(map(len, LINES))


@pytest.fixture(scope="module")
def error_rate() -> CharacterErrorRate:
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed")
    return CharacterErrorRate()


@pytest.fixture
def page(data):
    def page(name: str) -> np.ndarray:
        return np.asarray(Image.open(data / f"text/{name}.webp").convert("RGB"))

    return page


@pytest.fixture
def fake_program(tmp_path, monkeypatch):
    """Put a Python script on the path as `tesseract`; it follows one that lists languages."""
    if sys.platform == "win32":
        pytest.skip("scripts are no programs on Windows")

    def fake_program(body: str) -> None:
        script = tmp_path / "tesseract"
        listing = "import sys\nif '--list-langs' in sys.argv: print('eng'); sys.exit()\n"
        script.write_text(f"#!{sys.executable}\n{listing}{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return fake_program


def drawn(lines) -> np.ndarray:
    image = Image.new("RGB", (400, 130), (250, 250, 250))
    for index, line in enumerate(lines):
        font = ImageFont.load_default(24)
        ImageDraw.Draw(image).text((12, 12 + 36 * index), line, fill=(20, 20, 20), font=font)
    return np.asarray(image)


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Shrink an image and enlarge it again with a bicubic filter."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width // scale, height // scale), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


# --- edit distance ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("Abc", "abc", 1),
        ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("intention", "execution", 5),
        ("a b", "ab", 1), ("abcdef", "fedcba", 6),
    ],
)  # fmt: skip
def test_edit_distance(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


# --- rates -----------------------------------------------------------------------------------


def test_each_wrong_character_counts_once(error_rate):
    reference = drawn(LINES)
    assert error_rate(reference, reference) == 0
    wrong = drawn((LINES[0].replace("N", "M"), LINES[1].replace("128", "73"), LINES[2]))
    assert error_rate(wrong, reference) == pytest.approx((1 + 3) / LENGTH)
    assert error_rate(drawn(LINES[:2]), reference) == pytest.approx(len(LINES[2]) / LENGTH)
    case = drawn((*LINES[:2], LINES[2].replace("fox", "FOX")))
    assert error_rate(case, reference) == pytest.approx(3 / LENGTH)


def test_empty_image_has_the_worst_rate(error_rate):
    assert error_rate(np.full((130, 400, 3), 250, np.uint8), drawn(LINES)) == 1


@pytest.mark.parametrize("font", ["aileron", "rubik"])
def test_small_letters_are_lost_first(error_rate, page, font):
    rates = {
        size: error_rate(enlarged(page(f"{font}-{size}"), 4), page(f"{font}-{size}"))
        for size in (12, 16, 24, 32)
    }
    assert list(rates.values()) == sorted(rates.values(), reverse=True)
    assert rates[12] > 0.7 and rates[32] < 0.05


@pytest.mark.parametrize("name", ["camera-16", "camera-24", "sign", "aileron-16", "rubik-24"])
def test_rate_rises_with_the_scale(error_rate, page, name):
    reference = page(name)
    rates = [error_rate(enlarged(reference, scale), reference) for scale in (1, 2, 4)]
    assert rates[0] == 0 and rates[1] < 0.2 < rates[2] and rates == sorted(rates)


def test_texture_beside_the_text_does_not_count(error_rate, data):
    city = cv2.imread(str(data / "photos/scenes/city.webp"))[:130]
    reference = np.hstack((drawn(LINES), city))
    other = np.hstack((drawn(LINES), cv2.GaussianBlur(city, (0, 0), 2)))
    assert error_rate(other, reference) == 0


def test_depth_and_grey_layout_do_not_matter(error_rate):
    reference = drawn(LINES)
    wrong = drawn((LINES[0], LINES[1].replace("small", "smart"), LINES[2]))
    expected = error_rate(wrong, reference)
    assert expected == pytest.approx(2 / LENGTH)
    assert error_rate(wrong.astype(np.uint16) * 257, reference[..., 0]) == expected
    assert error_rate(wrong.astype(np.float32) / 255, reference) == expected


@pytest.mark.parametrize("name", ["dog", "flowers", "sand", "waves"])
def test_photos_without_text_cannot_be_measured(error_rate, data, name):
    photo = cv2.imread(str(data / f"photos/scenes/{name}.webp"))
    with pytest.raises(MetricError, match="the reference contains no text that can be read"):
        error_rate(photo, photo)


def test_an_image_is_read_once(error_rate, monkeypatch):
    runs = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: runs.append(a) or run(*a, **k))
    fresh = CharacterErrorRate()
    for other in (drawn(LINES[:2]), drawn(LINES[1:])):
        fresh(other, drawn(LINES))
        fresh(other, drawn(LINES))
    assert len(runs) == 1 + 3


def test_metric_is_registered(error_rate):
    metric = metrics()["text"]
    assert (metric.paired, metric.better) == (True, "less")
    wrong = drawn((LINES[0].replace("N", "M"), *LINES[1:]))
    assert metric.load(Resources())(wrong, drawn(LINES), 2) == pytest.approx(1 / LENGTH)


# --- the program -----------------------------------------------------------------------------


def test_missing_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match=r"^needs the program tesseract: install .*\)$"):
        metrics()["text"].load(Resources())


def test_missing_language_is_named(fake_program, tmp_path):
    fake_program("")
    script = tmp_path / "tesseract"
    script.write_text(script.read_text().replace("'eng'", "'osd'"))
    with pytest.raises(DependencyError, match=r"English data of tesseract: .* tesseract-ocr-eng"):
        CharacterErrorRate()


def test_program_that_fails_is_an_error_of_the_image(fake_program):
    fake_program("sys.exit(3)")
    with pytest.raises(MetricError, match=r"^tesseract failed .*status 3"):
        CharacterErrorRate()(drawn(LINES), drawn(LINES))


def test_program_that_does_not_end_is_stopped(fake_program, monkeypatch):
    fake_program("import time; time.sleep(60)")
    monkeypatch.setattr(text, "_SECONDS", 0.5)
    with pytest.raises(MetricError, match="tesseract took longer than"):
        CharacterErrorRate()(drawn(LINES), drawn(LINES))
