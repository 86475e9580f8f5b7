from __future__ import annotations

import numpy as np
import pytest

from upscale.engine.loading import load_model
from upscale.errors import MemoryExhaustedError
from upscale.jobs import benchmark as module
from upscale.jobs.benchmark import Setting, bench, measure_peak_rates

NAME = "realesr-animevideov3"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "_RUN_SECONDS", 1e-3)
    monkeypatch.setattr(module, "_COPY_BYTES", 1 << 20)
    monkeypatch.setitem(module._PRODUCT_SIDE, "cpu", 64)


def test_operations_count_all_convolutions():
    """SRVGG: 3 to 64, 16 times 64 to 64, 64 to 48 channels, 9 places, two operations each."""
    expected = 2 * 9 * (3 * 64 + 16 * 64 * 64 + 64 * 48)
    assert module.operations(load_model(NAME)) == expected


@pytest.mark.slow
def test_operations_of_the_large_network():
    """A dense block: 64, 96, 128, 160 to 32 and 192 to 64; 69 of them, and what is around."""
    blocks = 69 * (32 * (64 + 96 + 128 + 160) + 192 * 64)
    ends = 3 * 64 + 64 * 64 + 4 * 64 * 64 + 16 * (64 * 64 + 64 * 64 + 64 * 3)
    operations = module.operations(load_model("realesrgan-x4plus"))
    assert operations == 2 * 9 * (blocks + ends)


def test_peak_rates_are_measured_in_each_precision():
    peak = measure_peak_rates("cpu")
    assert set(peak.products) == {"fp32", "fp16", "bf16"}
    assert min(*peak.products.values(), peak.copied) > 0


def test_other_settings_are_compared_with_the_default():
    result = bench(NAME, "cpu", rounds=2)
    first, *others = result.throughputs
    assert (first.setting, first.gain, first.furthest) == (Setting("fp32", "auto"), 1, 0)
    assert [each.setting.precision for each in others] == ["fp16", "bf16", "fp32"]
    assert [each.setting.tile for each in others] == ["auto", "auto", 64]
    exact = next(each for each in others if each.setting.tile == 64)
    rounded = next(each for each in others if each.setting.precision == "bf16")
    assert exact.furthest <= 1 and exact.within == 1
    assert 0.9 < rounded.within <= 1
    assert result.side == 96 and result.scale == 4
    megapixels = (96 * 4) ** 2 / 1e6
    for each in result.throughputs:
        assert each.rate * each.seconds * megapixels == pytest.approx(result.operations * 96**2)


class Recorded:
    def __init__(self, name, log, error=None):
        self._name, self._log, self._error = name, log, error

    def upscale(self, image):
        self._log.append(self._name)
        if self._error:
            raise self._error
        return image


def test_settings_take_turns_and_the_warm_up_round_does_not_count():
    log = []
    runs = module._timed([Recorded("a", log), Recorded("b", log)], np.zeros((4, 4, 3)), 2)
    assert log == ["a", "b"] * 3
    assert [len(each.seconds) for each in runs] == [2, 2]


def test_a_setting_that_does_not_fit_memory_has_no_times():
    upscalers = [Recorded("a", []), Recorded("b", [], MemoryExhaustedError("no room"))]
    assert [len(each.seconds) for each in module._timed(upscalers, np.zeros((4, 4, 3)), 1)] == [
        1,
        0,
    ]
