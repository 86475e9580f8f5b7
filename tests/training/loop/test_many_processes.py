"""Everything that a run does, on two and on four processes, beside one process.

    python -m tests.training.loop.test_many_processes RECIPE FOLDER [RECIPE FOLDER ...]

Trains one recipe after the other, so that each number of processes is started only once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from upscale_training.loop import Note, StageStarted, train
from upscale_training.loop.state import saved_states
from upscale_training.recipe import (
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    LoggingSettings,
    OptimiserSettings,
    PixelSettings,
    SavingSettings,
    ScheduleSettings,
    Stage,
    ValidationSet,
    ValidationSettings,
)
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.writing import to_yaml

from tests.training.loop.runs import ROOT, check_same, collected, longer, make_images, tiny

IMAGES = 4
BATCH = 4
MEASURED = ("images_per_second", "seconds_left", "shares")


def recipe(images: Path, processes: int):
    """Return two stages with everything that processes must agree on; no pool, which is theirs."""
    fixed = {"batch": BATCH // processes, "ema": 0.5}
    schedule = ScheduleSettings(warmup=1, kind="cosine", minimum=0.1)
    gan = GanSettings(
        optimiser=OptimiserSettings(1e-3, clip=0.5), discriminator=DiscriminatorSettings(features=4)
    )
    stages = (
        Stage("psnr", 2, OptimiserSettings(1e-3, clip=0.01), schedule=schedule, **fixed),
        Stage("gan", 3, OptimiserSettings(1e-3, "schedule-free"), gan=gan, best_metric="ssim",
              more=(PixelSettings("ldl"), PixelSettings("focal-frequency")), **fixed),
    )  # fmt: skip
    return tiny(
        images,
        stages=stages,
        degradation=DegradationRecipe("classical", pool=0),
        validation=ValidationSettings((ValidationSet(images),), every=1, images=2),
        logging=LoggingSettings(every=1, tensorboard=False),
        saving=SavingSettings(every=1, keep_last=1, keep_best=1),
    )


def launch(processes: int, runs: list) -> None:
    """Train recipes under torchrun."""
    arguments = []
    for settings, folder in runs:
        file = folder.with_name(f"{folder.name}-{len(arguments)}.yaml")
        file.write_text(to_yaml(settings))
        arguments += [str(file), str(folder)]
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-m", *launcher, "-m", __spec__.name, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"), IMAGES, side=32)


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Run one, two and four processes; four also resume a run of two."""
    pytest.importorskip("pytorch_optimizer")
    folder = tmp_path_factory.mktemp("runs")
    train(recipe(images, 1), folder / "1", device="cpu")
    for count in (2, 4):
        whole = recipe(images, count)
        parts = [
            (longer(whole, 1, 1), folder / f"{count} in parts"),
            (whole, folder / f"{count} in parts"),
        ]
        others = [(longer(recipe(images, 4), 1, 4), folder / "other")] if count == 4 else []
        others += [(whole, folder / "other")] if count == 2 else []
        launch(count, [(whole, folder / str(count)), *parts, *others])
    return folder


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: each[key] for key in each if key not in MEASURED} for each in found]


def states(folder: Path, stage: str = "gan"):
    return saved_states(folder / "states" / stage)


def close(value, expected) -> None:
    """Check that logs are equal up to rounding."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key, each in expected.items():
            close(value[key], each)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-4)
    else:
        assert value == expected


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_losses_statistics_scores_and_best_states_are_those_of_one_process(runs, count):
    for mine, theirs in zip(lines(runs / str(count)), lines(runs / "1"), strict=True):
        close(mine, theirs)
    for stage in ("psnr", "gan"):
        kept, expected = (
            [each.info.step for each in states(runs / name, stage)] for name in (str(count), "1")
        )
        assert kept == expected
    pictures = [
        sorted(file.name for file in (runs / name / "pictures/gan/00000003").iterdir())
        for name in (str(count), "1")
    ]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_weights_averages_and_optimisers_are_those_of_one_process(runs, count):
    mine, theirs = states(runs / str(count))[-1], states(runs / "1")[-1]
    assert mine.info.processes == count
    assert len(list(mine.path.glob("process-*.pt"))) == count
    for name in ("generator", "judge"):
        one, other = (each.common()[name]["network"] for each in (mine, theirs))
        for key, value in other.items():
            torch.testing.assert_close(one[key], value, rtol=2e-2, atol=2e-4, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_run_resumes_exactly_on_as_many_processes(runs, count):
    whole, parts = (states(runs / name)[-1] for name in (str(count), f"{count} in parts"))
    check_same(whole.common(), parts.common())
    for rank in range(count):
        check_same(whole.own(rank), parts.own(rank))
    assert whole.weights.read_bytes() == parts.weights.read_bytes()


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_four_and_then_by_one(runs, images):
    state = states(runs / "other")[-1]
    assert (state.info.step, state.info.processes) == (4, 4)
    events = collected(longer(recipe(images, 1), 1, 5), runs / "other", allow_changes=True)
    assert StageStarted("gan", 4, 5) in events
    assert any("by 4 processes, not 1" in each.text for each in events if isinstance(each, Note))


if __name__ == "__main__":
    for settings, folder in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        train(read_recipe(Path(settings)), Path(folder), device="cpu", allow_changes=True)
