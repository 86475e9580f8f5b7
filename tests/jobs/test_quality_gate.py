from __future__ import annotations

from pathlib import Path

import pytest

from upscale.jobs.eval_items import EvalItem
from upscale.jobs.evaluation import Scores
from upscale.jobs.quality_gate import GateCheck, GateResult, gate_results


def scores(version: str, *values: dict[str, float], chain: str = "classical") -> list[Scores]:
    return [
        Scores(EvalItem(f"image {i}", version, Path("x.png"), None, chain), value)
        for i, value in enumerate(values)
    ]


def both(psnr: float, distance: float, **more: float) -> dict[str, float]:
    return {"psnr-y": psnr, "st-lpips": distance} | more


def passes(results: list[GateResult]) -> bool:
    [result] = results
    return result.passed


BICUBIC = scores("bicubic", both(30, 0.2), both(32, 0.1))


def result_of(*values: dict[str, float], baseline=BICUBIC, scale: int = 2) -> GateResult:
    measured = [*baseline, *scores("net", *values)]
    [result] = gate_results(measured, ["net"], baseline="bicubic", scale=scale)
    return result


def test_means_decide_and_equal_means_pass():
    assert result_of(both(30, 0.2), both(32, 0.1)).passed
    assert result_of(both(33, 0.05), both(29, 0.25)).passed
    result = result_of(both(30, 0.2), both(31.9, 0.1))
    assert not result.passed
    [failure] = result.failures
    assert failure == GateCheck("psnr-y", pytest.approx(30.95), 31, 2)
    assert str(failure) == "PSNR-Y 30.95 is below the limit of 31.00"


def test_each_metric_can_fail():
    [failure] = result_of(both(40, 0.2), both(40, 0.11)).failures
    assert failure.metric == "st-lpips"
    assert str(failure) == "ST-LPIPS 0.1550 is above the limit of 0.1500"
    assert [f.metric for f in result_of(both(1, 1), both(1, 1)).failures] == ["psnr-y", "st-lpips"]


def test_other_chains_do_not_count():
    measured = [
        *BICUBIC,
        *scores("net", both(31, 0.1)),
        *scores("net", both(1, 1), chain="generic"),
    ]
    assert passes(gate_results(measured, ["net"], baseline="bicubic", scale=4))


@pytest.mark.parametrize(
    ("rate", "passed"), [(0.10, True), (0.12, True), (0.13, False), (0.5, False)]
)
def test_legible_text_must_stay_legible(rate, passed):
    baseline = scores("bicubic", both(30, 0.2, text=0.1), both(30, 0.2, text=0.6))
    # Text that bicubic makes illegible does not count.
    result = result_of(both(31, 0.1, text=rate), both(31, 0.1, text=1.0), baseline=baseline)
    assert result.passed is passed
    assert result.checks[-1] == GateCheck("text", rate, pytest.approx(0.12), 1)


def test_without_legible_text_there_is_no_condition_on_text():
    baseline = scores("bicubic", both(30, 0.2, text=0.6))
    result = result_of(both(31, 0.1, text=1.0), baseline=baseline)
    assert [check.metric for check in result.checks] == ["psnr-y", "st-lpips"]


def test_text_that_was_not_measured_fails():
    baseline = scores("bicubic", both(30, 0.2, text=0.1))
    [failure] = result_of(both(31, 0.1), baseline=baseline).failures
    assert str(failure) == "Text CER was not measured"


def test_network_without_scores_fails():
    [result] = gate_results(BICUBIC, ["net"], baseline="bicubic", scale=4)
    assert [str(failure) for failure in result.failures] == [
        "PSNR-Y was not measured", "ST-LPIPS was not measured",
    ]  # fmt: skip


def test_limits_at_scale_1_are_constants():
    baseline = scores("bicubic", {"psnr-y": float("inf"), "st-lpips": 0.0, "text": 0.0})
    assert result_of(both(34, 0.1, text=0.02), baseline=baseline, scale=1).passed
    result = result_of(both(33.9, 0.11, text=0.03), baseline=baseline, scale=1)
    assert [(check.metric, check.limit) for check in result.failures] == [
        ("psnr-y", 34), ("st-lpips", 0.1), ("text", 0.02),
    ]  # fmt: skip
