"""The compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.budget import rounds
from tests.kernels.libraries import LIBRARIES
from upscale.kernels.compiled import LIBRARIES as FILES

ROOT = Path(__file__).parents[2]
CASES = rounds(150)
SANITISERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1")
ABILITIES = [library.values[0].ability for library in LIBRARIES if library.values[0] is not None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs GCC's sanitisers"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, compiled with sanitisers by the recipes of the package."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("sanitised")
    for name, (source, *flags) in (build.TARGETS | build.NEWER_TARGETS).items():
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
