"""The wheel: which packages it installs, its kernels, and its tag on Linux."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ("winograd-avx2.so", "winograd-avx512.so")


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    run("hatchling", "build", "-t", "wheel", "-d", folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_a_wheel_contains_only_packages_that_start_with_upscale(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert {"upscale", "upscale_training"} <= top
    assert all(name.startswith("upscale") for name in top), top
    assert "upscale_training/recipes/tiny-x4.yaml" in names


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="only for x86-64 with Linux"
)
def test_auditwheel_tags_the_wheel_manylinux_and_keeps_the_kernels(wheel, tmp_path):
    pytest.importorskip("auditwheel", reason="auditwheel is not installed")
    if shutil.which("patchelf", path=PATH) is None:
        pytest.skip("patchelf is not installed")
    run("auditwheel", "repair", "-w", tmp_path, wheel)
    [repaired] = tmp_path.glob("*.whl")
    assert re.search(r"-py3-none-manylinux_2_\d+_x86_64\.whl$", repaired.name)
    with zipfile.ZipFile(repaired) as archive:
        [tag] = re.findall(rb"^Tag: (.*)$", archive.read(wheel_info(archive)), re.MULTILINE)
        assert tag.decode() in repaired.name
        # The kernels need no library besides that of C, so none is put into the wheel.
        assert not [name for name in archive.namelist() if ".libs/" in name]
        archive.extractall(tmp_path / "unpacked")
    for name in KERNELS:
        ctypes.CDLL(str(tmp_path / "unpacked" / "upscale" / "kernels" / name))


def wheel_info(archive: zipfile.ZipFile) -> str:
    return next(name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
