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
def test_a_sound_installation_does_a_trial_and_exits_0(call):
    ended = call("doctor")
    assert ended.code == 0, ended.out
    for text in (__version__, "torch:", "cpu:", "available of", "cache:", DEFAULT_MODEL, "64x64"):
        assert text in ended.out
    assert "problem" not in ended.out


def test_without_the_default_network_it_says_how_to_get_it_and_exits_1(call, monkeypatch):
    monkeypatch.setattr("upscale.checkpoints.availability", lambda entry: "absent")
    ended = call("doctor")
    assert ended.code == 1
    assert f"upscale models pull {DEFAULT_MODEL}" in ended.out


def test_a_missing_package_is_named_with_its_remedy(call, monkeypatch):
    found = doctor.version

    def version(package):
        if package == "tifffile":
            raise doctor.PackageNotFoundError(package)
        return found(package)

    monkeypatch.setattr(doctor, "version", version)
    ended = call("doctor", "--quick")
    assert ended.code == 1
    assert "pip install tifffile" in ended.out


def test_a_trial_that_breaks_is_a_problem_not_a_crash(call, monkeypatch):
    def broken(session):
        raise RuntimeError("no such instruction")
        yield

    monkeypatch.setattr(doctor, "_trial", broken)
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
    assert "kernels:       none: made for CPUs with" in ended.out
    assert "hint:          kernels: a CPU is slower without" in ended.out
    assert "problem:       kernels" not in ended.out


@pytest.mark.parametrize(
    ("capability", "said"), [((7, 0), "torch only: made for GPUs"), ((9, 0), "torch only: Triton")]
)
def test_why_a_gpu_is_left_to_torch_is_said(monkeypatch, capability, said):
    import torch

    from upscale.kernels import triton_conv

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_conv.triton_version.cache_clear()
    assert doctor._gpu_kernels(3).startswith(said)
