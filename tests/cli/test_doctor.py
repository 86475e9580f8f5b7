from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from upscale import __version__
from upscale.checkpoints import availability, catalog
from upscale.cli import doctor
from upscale.cli.doctor_packages import EXTRAS, TRIALS
from upscale.dependencies import DISTRIBUTIONS
from upscale.options import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]

needs_default = pytest.mark.skipif(
    availability(catalog()[DEFAULT_MODEL]) == "absent", reason=f"{DEFAULT_MODEL} is not here"
)


@needs_default
def test_a_working_installation_passes_the_test_and_exits_0(call):
    ended = call("doctor")
    assert ended.code == 0, ended.out
    for text in (__version__, "torch:", "cpu:", "available of", "cache:", DEFAULT_MODEL):
        assert text in ended.out
    assert "8x8 -> 32x32 on cpu" in ended.out
    assert "problem" not in ended.out


def test_a_missing_default_network_is_reported_with_the_command_and_exits_1(call, monkeypatch):
    monkeypatch.setattr("upscale.checkpoints.availability", lambda entry: "absent")
    ended = call("doctor")
    assert ended.code == 1
    assert f"upscale models pull {DEFAULT_MODEL}" in ended.out


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", each)[0] for each in requirements}


def test_every_dependency_is_tried():
    assert set(TRIALS) == names(project()["dependencies"])


def test_every_extra_of_users_is_listed():
    extras = project()["optional-dependencies"]
    listed = {name: extra for name, (_, extra, _) in EXTRAS.items()}
    users = set(extras) - {"docs", "test"}
    assert listed == {name: extra for extra in users for name in names(extras[extra])}


MODULES = {package: module for module, package in DISTRIBUTIONS.items()}
ONE_TRIAL = """
import sys
from upscale.cli import doctor
from upscale.cli.app import run
from upscale.cli.session import Session
name = sys.argv[1]
doctor.TRIALS, doctor.EXTRAS = {name: doctor.TRIALS[name]}, {}
sys.exit(run(["doctor", "--quick"], Session.of_process()))
"""


def broken(folder: Path, package: str, library: str = "libGL.so.1") -> None:
    """Make a module of a package that cannot be imported for lack of a library."""
    module = MODULES.get(package, package)
    text = f"{library}: cannot open shared object file: No such file or directory"
    (folder / f"{module}.py").write_text(f"raise ImportError({text!r})\n")


@pytest.mark.parametrize("package", sorted(set(TRIALS) - {"typer", "rich"}))
def test_a_package_whose_library_is_missing_is_named(package, tmp_path, program_environment):
    broken(tmp_path, package)
    path = f"{tmp_path}{os.pathsep}{program_environment['PYTHONPATH']}"
    ended = subprocess.run(
        [sys.executable, "-c", ONE_TRIAL, package],
        env=program_environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    lines = [line for line in ended.stdout.splitlines() if line.startswith("problem: ")]
    [line] = lines or ended.stderr.splitlines()
    assert package in line
    assert "the library libGL.so.1 is missing" in line
    assert f"pip install --no-deps --force-reinstall {package}" in line.replace("'", "")


def test_a_missing_package_is_reported_with_the_command(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    ended = call("doctor", "--quick")
    assert ended.code == 1
    [line] = [line for line in ended.out.splitlines() if line.startswith("problem: ")]
    assert line.startswith("problem: tifffile: is not installed; run: python -m pip install ")
    assert "images cannot be upscaled" in ended.out


def test_a_package_that_gives_wrong_results_is_reported(call, monkeypatch):
    monkeypatch.setattr("cv2.resize", lambda pixels, size, interpolation: pixels[:2, :2] + 1)
    ended = call("doctor", "--quick")
    assert ended.code == 1
    assert "problem: opencv-python-headless: does not work (RuntimeError: resizing" in ended.out


def test_formats_without_their_package_are_marked(call, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert re.search(r"formats: .*gif, heic \(needs pillow-heif\), ", call("doctor", "--quick").out)


def test_a_broken_extra_is_a_hint(call, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: "1.0")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    ended = call("doctor", "--quick")
    assert ended.code == 0
    assert "hint: spandrel: is not installed" in ended.out


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["photo.png"], "typer"),
        (["photo.png"], "opencv-python-headless"),
        (["photo.png"], "torch"),
        (["doctor"], "torch"),
        (["doctor"], "rich"),
    ],
)
def test_a_broken_package_ends_every_command_in_one_line(
    package, arguments, photo, program, program_environment, tmp_path
):
    photo("photo.png")
    broken(tmp_path, package, "libmissing.so.2")
    path = f"{tmp_path}{os.pathsep}{program_environment['PYTHONPATH']}"
    ended = program(*arguments, env={"PYTHONPATH": path})
    assert ended.code == 1
    lines = (ended.out + ended.err).splitlines()
    [line] = [line for line in lines if line.startswith(("error: ", "problem: "))]
    assert package in line
    assert "libmissing.so.2" in line
    assert "pip install" in line
    assert "internal error" not in ended.err


def test_a_failing_test_is_a_problem_and_not_a_crash(call, monkeypatch):
    def broken(session):
        raise RuntimeError("no such instruction")
        yield

    monkeypatch.setattr(doctor, "_test", broken)
    ended = call("doctor")
    assert ended.code == 1
    assert "no such instruction" in ended.out


def test_little_memory_is_a_hint_only(call, monkeypatch):
    monkeypatch.setattr(doctor, "SMALL_MEMORY", 2**60)
    ended = call("doctor", "--quick")
    assert "hint: memory" in ended.out
    assert "problem: memory" not in ended.out


def test_missing_kernels_are_a_hint_only(call, monkeypatch):
    monkeypatch.setattr("upscale.kernels.compiled.LIBRARIES", {})
    ended = call("doctor", "--quick")
    assert re.search("kernels: +none: only for CPUs with", ended.out)
    assert "hint: kernels: upscaling on the CPU is slower" in ended.out
    assert "problem: kernels" not in ended.out


@pytest.mark.parametrize(
    ("capability", "text"),
    [((7, 0), "PyTorch only: only for GPUs"), ((9, 0), "PyTorch only: Triton")],
)
def test_the_reason_for_using_only_pytorch_on_a_gpu_is_reported(monkeypatch, capability, text):
    import torch

    from upscale.kernels import triton_conv

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_conv.triton_version.cache_clear()
    assert doctor._gpu_kernels(3).startswith(text)
