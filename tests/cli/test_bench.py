from __future__ import annotations

import json

import pytest

from upscale.jobs import benchmark as module
from upscale.jobs.benchmark import ModelBench, Setting, Throughput

NAME = "realesr-animevideov3"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "_RUN_SECONDS", 1e-3)
    monkeypatch.setattr(module, "_COPY_BYTES", 1 << 20)
    monkeypatch.setitem(module._PRODUCT_SIDE, "cpu", 64)


def throughput(gain, furthest=0, spread=1.1, precision="bf16", tile="auto"):
    return Throughput(Setting(precision, tile), 1.0, spread, 1e9, gain, furthest, 0.93)


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        (
            throughput(2.0, 9),
            "recommended: --precision bf16, 2.0 times as fast (93.0% of values within 1 level",
        ),
        (
            throughput(1.4, 1, tile=64),
            "recommended: --precision bf16 --tile 64, 1.4 times as fast (all values within",
        ),
        (throughput(1.05), "no setting is faster than the default"),
        (throughput(3.0, spread=4.0), "the measurements vary too much"),
    ],
)
def test_advice_follows_from_the_measurements(other, advice):
    from upscale.cli.bench import _advice

    first = throughput(1.0, precision="fp32")
    assert _advice(ModelBench(NAME, 4, 1e6, 96, "torch", (first, other))).startswith(advice)


def test_the_command_prints_a_table_or_json(call):
    table = call("bench", NAME, "--rounds", "1", "--device", "cpu")
    assert table.code == 0 and table.out.startswith("peak: fp32")
    assert f"{NAME}: x4, 1.24 MFLOP" in table.out
    assert "; convolutions: " in table.out
    lines = call("bench", NAME, "--rounds", "1", "--device", "cpu", "--json").out.splitlines()
    peak, result = map(json.loads, lines)
    assert set(peak["peak"]) == {"products", "copied"}
    assert peak["ceiling"] == peak["peak"]
    assert result["model"] == NAME and result["throughputs"][0]["setting"]["tile"] == "auto"
    assert result["paces"] == result["throughputs"]


@pytest.mark.parametrize("arguments", [["no-such-model"], ["--device", "cuda:99"]])
def test_a_missing_model_or_device_is_one_line(arguments, call):
    ended = call("bench", *arguments)
    assert ended.code != 0 and ended.err.count("error:") == 1
