"""Trials of the kernels, with stand-ins for the GPU and real processes that end early."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch

from tests.kernels.standins import card, stand_in_kernels
from upscale.kernels import KernelMissingError
from upscale.kernels.tile_configs import ONE_ROW, TWO_ROWS, Shape
from upscale.kernels.trial import (
    DIFFERS,
    MAX_CRASHES,
    TORCH_IS_FASTER,
    Candidate,
    Outcome,
    best_candidates,
    measure,
    measure_in_process,
    random_example,
    verdict_from,
)
from upscale.kernels.triton_conv import KernelUse, TritonLayer
from upscale.kernels.verdicts import Verdict

CARD, CPU = card(8, 0), torch.device("cpu")
SHAPES = [Shape((each, 0), 32, 1, 1, 0, "float16") for each in (32, 64)]
FAST, SLOW, NONE = Outcome(1e-3), Outcome(3e-3), Outcome(None, "no C compiler")
CRASH = Outcome(None, "its process ended early", crashed=True)


def seconds_of(candidate):
    """Return times of a stand-in: the second kernel is the fastest."""
    return {None: 3.0, ONE_ROW[0]: 2.0, ONE_ROW[1]: 1.0, TWO_ROWS: 2.5}[candidate.config]


def timed(work):
    work()
    return 2.0


class Processes:
    """Processes that measure candidates until one of them is bad."""

    def __init__(self, *bad):
        self.bad, self.calls = bad, []

    def __call__(self, candidates):
        self.calls.append(len(candidates))
        outcomes = []
        for candidate in candidates:
            if (candidate.shape, candidate.config) in self.bad:
                return [*outcomes, CRASH]
            outcomes.append(Outcome(seconds_of(candidate)))
        return outcomes


def test_the_fastest_candidate_of_each_shape_is_chosen():
    processes = Processes()
    assert best_candidates(CARD, SHAPES, processes) == dict.fromkeys(SHAPES, Verdict(ONE_ROW[1]))
    assert processes.calls == [8]  # torch and three tile configs for each of two shapes


def test_a_candidate_that_ends_its_process_is_skipped_and_the_others_are_tried():
    processes = Processes((SHAPES[0], ONE_ROW[1]), (SHAPES[1], None))
    found = best_candidates(CARD, SHAPES, processes)
    assert found == {SHAPES[0]: Verdict(ONE_ROW[0]), SHAPES[1]: Verdict(ONE_ROW[1])}
    assert processes.calls == [8, 5, 3]


def test_torch_computes_the_rest_after_several_crashes():
    processes = Processes(*((shape, config) for shape in SHAPES for config in CARD.configs(shape)))
    found = best_candidates(CARD, SHAPES, processes)
    assert len(processes.calls) == MAX_CRASHES
    assert found[SHAPES[0]] == Verdict(None, CRASH.reason)
    assert found[SHAPES[1]] == Verdict(None, CRASH.reason)
    many = [replace(SHAPES[0], outputs=outputs) for outputs in (16, 32, 48, 64)]
    found = best_candidates(CARD, many, Processes(*((shape, ONE_ROW[0]) for shape in many),
                                                  *((shape, None) for shape in many)))  # fmt: skip
    skipped = [each for each in found.values() if "not tried" in each.reason]
    assert skipped and not any(each.lasting for each in skipped)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({None: SLOW, ONE_ROW[0]: FAST}, Verdict(ONE_ROW[0])),
        ({None: FAST, ONE_ROW[0]: SLOW}, Verdict(None)),
        ({None: SLOW, ONE_ROW[0]: NONE, ONE_ROW[1]: FAST}, Verdict(ONE_ROW[1])),
        ({None: SLOW, ONE_ROW[0]: NONE}, Verdict(None, NONE.reason, lasting=False)),
        ({None: SLOW, ONE_ROW[0]: CRASH}, Verdict(None, CRASH.reason)),
        ({None: SLOW, ONE_ROW[0]: Outcome(None, DIFFERS)}, Verdict(None, DIFFERS)),
        ({None: NONE, ONE_ROW[0]: NONE}, Verdict(None, NONE.reason, lasting=False)),
        ({None: SLOW}, Verdict(None, "no kernel fits this card")),
    ],
)
def test_verdicts(outcomes, verdict):
    if verdict == Verdict(None):
        verdict = Verdict(None, TORCH_IS_FASTER)
    assert verdict_from(outcomes) == verdict


@pytest.mark.parametrize(
    "shape",
    [Shape((3, 0), 64, 1, 1, 0, "float16"), Shape((64, 32), 32, 1, 1, 0, "bfloat16"),
     Shape((16, 0), 3, 1, 2, 0, "float16"), Shape((64, 64), 64, 0, 1, 2, "float16")],
    ids=str,
)  # fmt: skip
def test_candidates_are_measured_if_they_agree_with_torch(shape):
    use = KernelUse(stand_in_kernels())
    for config in (None, *card().configs(shape)):
        outcome = measure(use, Candidate(shape, config), CPU, timed, side=7)
        assert outcome == Outcome(2.0)
    assert use.kernels.one_row.launches and use.kernels.two_rows.launches
    layer, maps, residuals = random_example(shape, CPU, 7)
    assert TritonLayer(use, layer).shape(maps, residuals) == shape


def raising(_):
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda x: x.roll(1, 3), DIFFERS),
        (lambda x: x * math.nan, DIFFERS),
        (raising, "Failed to find C compiler. Please specify via CC environment variable"),
    ],
)
def test_candidates_that_are_wrong_or_fail_have_a_reason_and_no_time(fault, reason):
    use = KernelUse(stand_in_kernels(fault))
    outcome = measure(use, Candidate(SHAPES[0], ONE_ROW[0]), CPU, timed, side=7)
    assert outcome == Outcome(None, reason)


def test_a_kernel_that_writes_nothing_is_wrong():
    """As compiled by Triton 3.6 for compute capability 10.0: an empty program."""
    use = KernelUse(stand_in_kernels())
    use.kernels.two_rows.run = lambda arguments, options: None
    outcome = measure(use, Candidate(SHAPES[0], TWO_ROWS), CPU, timed, side=7)
    assert outcome == Outcome(None, DIFFERS)


PROCESS = """
import json, os, sys, time
path, bad, end = sys.argv[3], int(sys.argv[1]), sys.argv[2]
open(path, "w").close()
for number, candidate in enumerate(json.load(sys.stdin)):
    if number == bad:
        print("CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True)
        exec(end)
    with open(path, "a") as file:
        file.write(json.dumps({"seconds": candidate["shape"]["channels"][0]}) + "\\n")
"""
CANDIDATES = [Candidate(shape, config) for shape in SHAPES for config in (None, ONE_ROW[0])]


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("os.abort()", "exit status"),
        ("sys.exit(1)", "exit status 1: CUDA error: an illegal memory access was encountered"),
        ("open(path, 'a').write('{\"sec'); os.abort()", "exit status"),
    ],
)
def test_outcomes_before_a_crash_are_kept(end, text):
    command = [sys.executable, "-c", PROCESS, "2", end]
    *kept, last = measure_in_process(command, CANDIDATES)
    assert kept == [Outcome(32.0), Outcome(32.0)]
    assert last.crashed and last.seconds is None and text in last.reason
    outcomes = measure_in_process([sys.executable, "-c", PROCESS, "-1", ""], CANDIDATES)
    assert [each.seconds for each in outcomes] == [32, 32, 64, 64]


def test_a_kernel_that_never_ends_is_stopped():
    command = [sys.executable, "-c", PROCESS, "1", "time.sleep(600)"]
    kept, last = measure_in_process(command, CANDIDATES, seconds=3)
    assert kept == Outcome(32.0)
    assert last.crashed and last.reason.endswith("(took more than 3 seconds)")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "raise SystemExit('CUDA error: all devices are busy')"], "busy"),
        ([sys.executable, "-c", "import os; os.abort()"], "exit status"),
        (["/no/such/python"], "No such file"),
    ],
)
def test_a_process_that_cannot_use_the_gpu_says_nothing_about_the_kernels(command, reason):
    with pytest.raises(KernelMissingError, match=reason):
        measure_in_process(command, CANDIDATES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_the_process_of_a_trial_needs_a_gpu():
    command = [sys.executable, "-m", "upscale.kernels.trial", "cuda:0"]
    with pytest.raises(KernelMissingError, match="cannot be tried in another process"):
        measure_in_process(command, CANDIDATES)
