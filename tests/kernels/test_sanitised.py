"""The compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.budget import rounds
from tests.kernels.building import ROOT, SANITISERS, build_driver, hatch_build
from tests.kernels.libraries import LIBRARIES
from upscale.kernels.compiled import LIBRARIES as FILES

CASES = rounds(150)
ABILITIES = [library.values[0].ability for library in LIBRARIES if library.values[0] is not None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs GCC's sanitisers"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, compiled with sanitisers by the recipes of the package."""
    build = hatch_build()
    folder = tmp_path_factory.mktemp("sanitised")
    for name, (source, *flags) in (build.X86 | build.NEWER_X86).items():
        if name not in {FILES[ability] for ability in ABILITIES}:
            continue
        path = ROOT / build.KERNELS / source
        command = ["gcc", *build.FLAGS, *flags, *SANITISERS, str(path), "-o", str(folder / name)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no gcc")
        if done.returncode:
            pytest.skip(f"gcc has no sanitisers: {done.stderr[-200:]}")
    return folder


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return subprocess.run(
        [sys.executable, "-m", "tests.kernels.sanitised", str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"},
    )


@pytest.mark.parametrize("ability", ABILITIES)
def test_random_layers_touch_no_memory_of_others(ability: str, folder: Path) -> None:
    done = run(folder, ability, CASES, 11)
    assert (done.stdout.strip(), done.returncode) == (str(CASES), 0), done.stderr[-2000:]
    print(f"\n{ability}: {CASES} random layers under sanitisers, no report")


@pytest.mark.parametrize("ability", ABILITIES)
def test_an_overflow_is_reported(ability: str, folder: Path) -> None:
    done = run(folder, ability, "overflow")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


@pytest.mark.parametrize("name", ["winograd-neon.so", "winograd-avx2.so", "winograd-avx512.so"])
def test_layers_in_c_touch_no_memory_of_others_even_in_forks(name: str, tmp_path: Path) -> None:
    """That for ARM64 is compiled for this machine, with its plain vectors of four floats."""
    build = hatch_build()
    if name in build.X86 and name not in {FILES[ability] for ability in ABILITIES}:
        pytest.skip("this CPU cannot run it")
    _, *flags = (build.X86 | build.ARM64)[name]
    program = tmp_path / "driver"
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    if error := build_driver("gcc", [*flags, *SANITISERS], program):
        pytest.skip(f"gcc has no sanitisers: {error[-200:]}")
    done = subprocess.run(
        [str(program), str(CASES), "2", "fork"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr[-2000:]
    print(f"\n{name}: {done.stdout.strip()}")
