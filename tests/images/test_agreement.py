"""Our reading of all test images, compared with that of independent readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest

from tests.images.agreement import sandbox as limits
from tests.images.agreement.departures import DEPARTURES, outdated, unintended
from tests.images.agreement.readers import READERS, Reader, pillow
from tests.images.agreement.report import compare_all, remark, share, table
from tests.images.agreement.samples import Decoded, decoded, difference
from tests.images.agreement.sandbox import Refusal, Sandbox
from tests.images.agreement.verdicts import Outcome, Verdict, compare

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")

PACKAGES = tuple(reader for reader in READERS if reader.package)
PIXELS = np.random.default_rng(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("readers", "fewest"),
    [
        pytest.param(PACKAGES, 100, id="packages"),
        pytest.param(READERS, 170, id="all", marks=pytest.mark.slow),
    ],
)
def test_test_images_are_read_as_others_read_them(
    readers: tuple[Reader, ...], fewest: int, data: Path
):
    paths = sorted(path for path in (data / "images").rglob("*") if path.is_file())
    verdicts = list(compare_all(paths, 2, readers))
    print(*filter(None, map(remark, verdicts)), *table(verdicts), sep="\n")
    assert [str(verdict) for verdict in unintended(verdicts)] == []
    assert [str(verdict) for verdict in outdated(verdicts)] == []
    assert sum(verdict.outcome is Outcome.AGREES for verdict in verdicts) >= fewest


def test_files_that_are_read_unlike_others_on_purpose_exist(data):
    names = [name for departure in DEPARTURES for name in departure.files]
    assert [name for name in names if not (data / "images" / name).is_file()] == []


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_independent_readers_return_the_stored_pixels(reader, sandbox, tmp_path):
    if not reader.is_installed():
        pytest.skip(f"{reader.name} is not installed")
    format = {
        "OpenCV": "bmp",
        "psd-tools": "psd",
        "opj_decompress": "jpeg2000",
        "djxl": "jxl",
        "avifdec": "avif",
    }.get(reader.name, "png")
    path = tmp_path / f"stored.{'jp2' if format == 'jpeg2000' else format}"
    stored(path, format)
    apart = difference(sandbox.call(reader.read, path, format), decoded(PIXELS))
    assert apart is not None and apart.most <= reader.levels
    verdict = compare(path, sandbox, [reader])
    assert (verdict.outcome, verdict.format) == (Outcome.AGREES, format), verdict


def stored(path: Path, format: str) -> None:
    """Write `PIXELS` losslessly, by other programs than the reader."""
    if format in ("png", "bmp"):
        assert cv2.imwrite(str(path), PIXELS[..., ::-1])
    elif format == "psd":
        from PIL import Image
        from psd_tools import PSDImage

        PSDImage.frompil(Image.fromarray(PIXELS)).save(path)
    elif format == "jpeg2000":
        path.write_bytes(imagecodecs.jpeg2k_encode(PIXELS, reversible=True, codecformat="jp2"))
    elif format == "jxl":
        path.write_bytes(imagecodecs.jpegxl_encode(PIXELS, lossless=True))
    else:
        # Quality 100 is lossless.
        path.write_bytes(imagecodecs.avif_encode(PIXELS, 100, pixelformat="444"))


def one_pixel_off(path: Path, format: str) -> Decoded:
    image = pillow(path, format)
    image.samples[5, 7, 1] ^= 257
    return image


def with_more_bits(path: Path, format: str) -> Decoded:
    """The image as if the file had 16 bits, of which we had read 8."""
    lower = np.random.default_rng(4).integers(-128, 128, PIXELS.shape)
    deep = (PIXELS.astype(np.int32) * 257 + lower).clip(0, 65535)
    return decoded(deep.astype(np.uint16))


def one_transparent_pixel_off(path: Path, format: str) -> Decoded:
    image = pillow(path, format)
    image.samples[5, 7, :3] = 0
    return image


def turned(path: Path, format: str) -> Decoded:
    image = pillow(path, format)
    return Decoded(image.samples.swapaxes(0, 1), image.bits)


def fails(path: Path, format: str) -> Decoded:
    raise Refusal(f"{path} is strange")


def fake(read: Callable[[Path, str], Decoded]) -> Reader:
    return Reader(read.__name__, read, frozenset({"png"}), package="PIL")


@pytest.mark.parametrize(
    ("reads", "outcome", "text"),
    [
        ([one_pixel_off], Outcome.DIFFERS, "one_pixel_off differs: up to 1 levels at (7, 5)"),
        ([with_more_bits], Outcome.DIFFERS, "with_more_bits differs: up to 0.498"),
        ([turned], Outcome.DIFFERS, "turned differs in size: 24x32, ours 32x24"),
        ([fails], Outcome.ONLY_WE, "fails refuses: FILE is strange"),
        ([pillow, turned, fails], Outcome.AGREES, "pillow agrees: up to 0 levels"),
        ([], Outcome.UNCHECKED, ""),
    ],
)
def test_differences_are_found_and_described(reads, outcome, text, sandbox, tmp_path):
    path = tmp_path / "stored.png"
    stored(path, "png")
    verdict = compare(path, sandbox, [fake(read) for read in reads])
    assert verdict.outcome is outcome
    assert text in str(verdict)


def test_colours_of_transparent_pixels_do_not_count(sandbox, tmp_path):
    path, samples = tmp_path / "stored.png", np.dstack((PIXELS, PIXELS[..., 0] | 1))
    samples[5, 7] = 200, 100, 50, 0
    cv2.imwrite(str(path), samples)
    reader = fake(one_transparent_pixel_off)
    assert compare(path, sandbox, [reader]).outcome is Outcome.AGREES
    samples[5, 7, 3] = 60
    cv2.imwrite(str(path), samples)
    assert compare(path, sandbox, [reader]).outcome is Outcome.DIFFERS


def test_refused_files_are_shown_with_our_message(sandbox, tmp_path):
    path = tmp_path / "stored.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nIHDR")
    verdict = compare(path, sandbox, [fake(fails)])
    assert (verdict.outcome, verdict.ours) == (
        Outcome.NONE,
        "FILE: is cut off; use an undamaged copy",
    )


def test_only_agreeing_and_differing_files_make_the_share():
    kinds = [*[Outcome.AGREES] * 3, Outcome.DIFFERS, Outcome.ONLY_WE, Outcome.NONE]
    verdicts = [Verdict(Path("x.png"), "png", kind) for kind in kinds]
    assert share(verdicts) == 0.75
    assert share(verdicts[4:]) is None
    assert [line.split()[:3] for line in table(verdicts)][1:] == [
        ["png", "75.00%", "3"],
        ["all", "75.00%", "3"],
    ]


def test_the_command_prints_disagreements_and_fails_below_a_share(tmp_path, data):
    (tmp_path / "unlike").mkdir()
    gif = data / "images/image-rs/border_touching_layers.gif"
    shutil.copy(gif, tmp_path / "unlike")

    def run(least: float, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.images.agreement", f"--at-least={least}", folder],
            cwd=data.parents[1],
            capture_output=True,
            text=True,
            check=False,
        )

    good = run(0.9, data / "images/sharp")
    assert good.stdout.startswith("1 files; independent readers: ")
    assert good.stdout.splitlines()[-1].split()[:3] == ["all", "100.00%", "1"]
    assert good.returncode == 0
    bad = run(0.9, tmp_path / "unlike")
    assert "border_touching_layers.gif: differs; " in bad.stdout
    assert bad.returncode == 1
    missing = run(0, tmp_path / "missing")
    assert "is not a folder" in missing.stderr and missing.returncode == 2


def test_crashes_hangs_and_much_memory_end_in_refusals(sandbox, monkeypatch):
    with pytest.raises(Refusal, match="crashed"):
        sandbox.call(os.abort)
    with pytest.raises(Refusal, match="MemoryError"):
        sandbox.call(bytearray, 2 * limits.MEMORY_BYTES)
    monkeypatch.setattr(limits, "SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(Refusal, match="took more than 1 s"):
        sandbox.call(time.sleep, 60)
    assert time.monotonic() - start < 30
    assert sandbox.call(max, 3, 5) == 5
