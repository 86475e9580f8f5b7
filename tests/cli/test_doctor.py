from __future__ import annotations

import sys

import pytest

from upscale import __version__
from upscale.checkpoints import availability, catalog
from upscale.cli import doctor
from upscale.options import DEFAULT_MODEL

needs_default = pytest.mark.skipif(
    availability(catalog()[DEFAULT_MODEL]) == "absent", reason=f"{DEFAULT_MODEL} is not here"
)


@needs_default
def test_a_working_installation_passes_the_test_and_exits_0(call):
    ended = call("doctor")
    assert ended.code == 0, ended.out
    for text in (__version__, "torch:", "cpu:", "available of", "cache:", DEFAULT_MODEL, "64x64"):
        assert text in ended.out
    assert "problem" not in ended.out


def test_a_missing_default_network_is_reported_with_the_command_and_exits_1(call, monkeypatch):
    monkeypatch.setattr("upscale.checkpoints.availability", lambda entry: "absent")
    ended = call("doctor")
    assert ended.code == 1
    assert f"upscale models pull {DEFAULT_MODEL}" in ended.out


def test_a_missing_package_is_reported_with_the_command(call, monkeypatch):
    real_version = doctor.version

    def version(package):
        if package == "tifffile":
            raise doctor.PackageNotFoundError(package)
        return real_version(package)

    monkeypatch.setattr(doctor, "version", version)
    ended = call("doctor", "--quick")
    assert ended.code == 1
    assert "pip install tifffile" in ended.out


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
    assert "hint:          memory" in ended.out
    assert "problem:       memory" not in ended.out


def test_missing_kernels_are_a_hint_only(call, monkeypatch):
    monkeypatch.setattr("upscale.kernels.compiled.LIBRARIES", {})
    ended = call("doctor", "--quick")
    assert "kernels:       none: only for CPUs with" in ended.out
    assert "hint:          kernels: upscaling on the CPU is slower" in ended.out
    assert "problem:       kernels" not in ended.out


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
