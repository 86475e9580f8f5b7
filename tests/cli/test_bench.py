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


def pace(gain, furthest=0, spread=1.1, precision="bf16", tile="auto"):
    return Throughput(Setting(precision, tile), 1.0, spread, 1e9, gain, furthest, 0.93)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (pace(2.0, 9), "faster: --precision bf16, 2.0 times (93.0% of values within a level"),
        (pace(1.4, 1, tile=64), "faster: --precision bf16 --tile 64, 1.4 times (the same image"),
        (pace(1.05), "nothing here is faster"),
        (pace(3.0, spread=4.0), "too unsteady"),
    ],
)
def test_advice_is_what_the_figures_say(other, said):
    from upscale.cli.bench import _advice

    first = pace(1.0, precision="fp32")
    assert _advice(ModelBench(NAME, 4, 1e6, 96, "torch", (first, other))).startswith(said)


def test_the_command_prints_a_table_or_json(call):
    table = call("bench", NAME, "--rounds", "1", "--device", "cpu")
    assert table.code == 0 and table.out.startswith("ceiling: matrix products fp32")
    assert f"{NAME}: x4, 1.24 MFLOP" in table.out
    assert "; convolutions: " in table.out
    lines = call("bench", NAME, "--rounds", "1", "--device", "cpu", "--json").out.splitlines()
    limit, found = map(json.loads, lines)
    assert set(limit["ceiling"]) == {"products", "copied"}
    assert found["model"] == NAME and found["paces"][0]["setting"]["tile"] == "auto"


@pytest.mark.parametrize("arguments", [["no-such-model"], ["--device", "cuda:99"]])
def test_what_is_not_there_is_one_line(arguments, call):
    ended = call("bench", *arguments)
    assert ended.code != 0 and ended.err.count("error:") == 1
