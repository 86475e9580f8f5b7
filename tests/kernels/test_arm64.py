"""The kernel for ARM64, cross-compiled and run by an emulator."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.building import ROOT, build_driver, hatch_build

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LAYERS = 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, (COMPILER, EMULATOR))),
        reason=f"{COMPILER} or {EMULATOR} is not installed",
    ),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("arm64") / "driver"
    (_, *flags) = hatch_build().ARM64["winograd-neon.so"]
    assert build_driver(COMPILER, [*flags, "-static", "-Wall", "-Werror"], program) == ""
    return program


def test_random_layers_agree_with_a_plain_convolution(driver: Path) -> None:
    """Not in a forked process: QEMU's emulation of processes cannot start threads there."""
    done = subprocess.run(
        [EMULATOR, str(driver), str(LAYERS), "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split(",")[0]) == (0, f"{LAYERS} layers"), done.stdout
    print(f"\nARM64: {done.stdout.strip()}")


def test_products_are_computed_by_vector_instructions(driver: Path) -> None:
    """Each vector of products is one multiplication by a value, and an addition."""
    done = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", str(driver)], capture_output=True, text=True, check=True
    )
    assert len(re.findall(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+\.s\[0\]", done.stdout)) >= 24


def test_the_library_for_arm64_is_built_from_the_same_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = hatch_build()
    folder = tmp_path / build.KERNELS
    shutil.copytree(ROOT / build.KERNELS, folder)
    monkeypatch.setenv("CC", COMPILER)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert build.build_kernels(tmp_path)
    [library] = folder.glob("*.so")
    assert library.name == "winograd-neon.so"
    assert int.from_bytes(library.read_bytes()[18:20], "little") == 183  # AArch64
