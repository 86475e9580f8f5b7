from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upscale_training.loop import Note, Saved, StageStarted, Stepped, Validated, train
from upscale_training.loop import state as state_module
from upscale_training.loop.state import SavedState, StateInfo, saved_states, superfluous
from upscale_training.recipe import (
    DegradationRecipe,
    LoggingSettings,
    SavingSettings,
    ValidationSet,
    ValidationSettings,
)

from tests.training.loop.runs import ROOT, check_same, collected, longer, one_stage, tiny
from upscale.checkpoints import read_state_dict
from upscale.errors import OutputError, TrainingError


def steps(folder: Path, stage: str = "psnr") -> list[int]:
    return [state.info.step for state in saved_states(folder / "states" / stage)]


def validated(step: int, score: float | None) -> SavedState:
    scores = None if score is None else {"a": {"psnr": score - 1}, "b": {"psnr": score + 1}}
    info = StateInfo("psnr", step, 1, "", 0, None, scores, None if score is None else step)
    return SavedState(Path(str(step)), info)


def test_the_newest_and_the_best_are_kept():
    states = [
        validated(1, 20),
        validated(2, 22),
        validated(3, None),
        validated(4, 22),
        validated(5, 21),
    ]

    def gone(**settings) -> list[int]:
        return [each.info.step for each in superfluous(states, SavingSettings(**settings))]

    assert gone(keep_last=1, keep_best=0) == [1, 2, 3, 4]
    assert gone(keep_last=1, keep_best=1) == [1, 3, 4], "of equals, the older"
    assert gone(keep_last=2, keep_best=2) == [1, 3]
    assert gone(keep_last=1, keep_best=5) == [3], "a state without validation is not among the best"
    scores = {"a": {"niqe": 3.0}}
    lower = [
        SavedState(each.path, replace(each.info, scores=scores, validated_step=each.info.step))
        for each in states[:2]
    ]
    lower[0] = SavedState(lower[0].path, replace(lower[0].info, scores={"a": {"niqe": 2.0}}))
    settings = SavingSettings(keep_last=1, keep_best=1, best_metric="niqe")
    assert superfluous(lower, settings) == []


def test_old_states_are_removed_only_after_new_ones_exist(images, tmp_path):
    recipe = one_stage(images, saving=SavingSettings(every=1, keep_last=2))
    folder, found = tmp_path / "run", []

    def look(event) -> None:
        if isinstance(event, Saved):
            found.append(steps(folder))

    train(recipe, folder, device="cpu", events=look)
    assert found == [[1], [1, 2], [2, 3]]


def test_a_state_is_saved_for_every_validation_that_is_among_the_best(images, tmp_path):
    # Weights that become better with each step, and a save only at the end.
    recipe = one_stage(
        images,
        validation=ValidationSettings((ValidationSet(images),), every=1, metrics=("psnr",)),
        saving=SavingSettings(every=100, keep_last=1, keep_best=1),
    )
    events = collected(recipe, tmp_path / "run")
    best = max(
        saved_states(tmp_path / "run" / "states" / "psnr"),
        key=lambda each: each.info.score("psnr") or 0,
    )
    figures = [
        event.scores["validation"]["psnr"] for event in events if isinstance(event, Validated)
    ]
    assert len(figures) == 3
    assert best.info.score("psnr") == max(figures)


def test_states_are_read_as_tensors_and_plain_values_only(images, tmp_path):
    train(one_stage(images, degradation=DegradationRecipe(pool=4)), tmp_path / "run", device="cpu")
    state = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    files = list(state.path.glob("*.pt"))
    assert {file.name for file in files} == {"common.pt", "process-0.pt"}
    for file in files:
        assert torch.load(file, weights_only=True)
    pool = state.own(0)["pairs"]["pool"]
    assert pool["high"].dtype == torch.uint8, "levels, a quarter of the size of floats"


def test_the_averaged_weights_of_a_state_can_be_loaded_as_a_network(images, tmp_path):
    from upscale_training.data.pixels import read_rgb

    from upscale import Upscaler

    train(one_stage(images), tmp_path / "run", device="cpu")
    weights = saved_states(tmp_path / "run" / "states" / "psnr")[-1].weights
    assert Upscaler(weights).upscale(read_rgb(images / "0.png")).shape == (192, 192, 3)


def test_a_prolonged_stage_equals_one_of_that_length(images, tmp_path):
    recipe = one_stage(images)
    train(longer(recipe, 0, 2), tmp_path / "two", device="cpu")
    events = collected(recipe, tmp_path / "two")
    assert StageStarted("psnr", 2, 3) in events
    train(recipe, tmp_path / "one", device="cpu")
    weights = [
        read_state_dict(tmp_path / name / "tiny-psnr.safetensors") for name in ("one", "two")
    ]
    for key, value in weights[0].items():
        assert torch.equal(weights[1][key], value)


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    train(tiny(images), tmp_path / "run", device="cpu")
    events = collected(tiny(images), tmp_path / "run")
    assert not any(isinstance(event, Stepped) for event in events)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"degradation": DegradationRecipe(pool=4)}, "degradation.pool was 0 and is 4"),
    ],
)
def test_a_recipe_that_changes_weights_raises_an_error_that_names_the_key(
    images, tmp_path, changes, message
):
    train(one_stage(images), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=message) as caught:
        train(one_stage(images, **changes), tmp_path / "run", device="cpu")
    assert "\n" not in str(caught.value)
    assert steps(tmp_path / "run") == [3]


def test_keys_that_change_no_weights_may_change(images, tmp_path):
    recipe = one_stage(images)
    train(recipe, tmp_path / "run", device="cpu")
    other = one_stage(
        images,
        logging=LoggingSettings(every=3, tensorboard=False),
        saving=SavingSettings(every=1, keep_last=5),
        validation=ValidationSettings((ValidationSet(images),), every=2),
        data=replace(recipe.data, workers=1),
        licence="CC0",
    )
    train(longer(other, 0, 5), tmp_path / "run", device="cpu")
    assert steps(tmp_path / "run") == [3, 4, 5]


def test_fewer_iterations_than_are_done_raise_an_error(images, tmp_path):
    recipe = one_stage(images)
    train(recipe, tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=r"3 iterations are done, more than the 2 of stages\.0"):
        train(longer(recipe, 0, 2), tmp_path / "run", device="cpu")


def test_a_stage_is_not_prolonged_under_the_next_one(images, tmp_path):
    recipe = tiny(images)
    train(recipe, tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match="gan has started from psnr after 6"):
        train(longer(recipe, 0, 9), tmp_path / "run", device="cpu")


def test_the_second_stage_alone_needs_the_end_of_the_first(images, tmp_path):
    recipe = tiny(images, validation=None)
    with pytest.raises(TrainingError, match="gan starts from the weights of psnr"):
        train(recipe, tmp_path / "run", device="cpu", stage="gan")
    train(recipe, tmp_path / "run", device="cpu", stage="psnr")
    events = collected(recipe, tmp_path / "run", stage="gan")
    start = tmp_path / "run" / "states" / "psnr" / "00000006" / "ema.safetensors"
    assert Note(f"starts from {start}") in events
    train(recipe, tmp_path / "at once", device="cpu")
    one, other = (
        read_state_dict(tmp_path / name / "tiny-gan.safetensors") for name in ("run", "at once")
    )
    check_same(one, other)


def test_starting_over_removes_everything(images, tmp_path):
    folder = tmp_path / "run"
    train(tiny(images), folder, device="cpu")
    before = (folder / "log.jsonl").read_text().count("\n")
    train(tiny(images, seed=3), folder, device="cpu", resume=False)
    assert (folder / "log.jsonl").read_text().count("\n") == before


def test_the_error_for_a_damaged_state_says_how_to_continue(images, tmp_path):
    recipe = one_stage(images, saving=SavingSettings(every=1))
    train(recipe, tmp_path / "run", device="cpu")
    newest = saved_states(tmp_path / "run" / "states" / "psnr")[-1].path
    (newest / "common.pt").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"common\.pt: damaged.*remove the folder 00000003"):
        train(longer(recipe, 0, 4), tmp_path / "run", device="cpu")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert StageStarted("psnr", 2, 4) in collected(longer(recipe, 0, 4), tmp_path / "run")


def test_a_full_disk_stops_the_run_and_older_states_are_complete(images, tmp_path, monkeypatch):
    recipe = one_stage(images, saving=SavingSettings(every=1))
    train(longer(recipe, 0, 2), tmp_path / "run", device="cpu")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(OutputError, match=r"00000003: cannot be saved \(No space left"):
        train(recipe, tmp_path / "run", device="cpu")
    monkeypatch.undo()
    assert steps(tmp_path / "run") == [1, 2]
    assert not list((tmp_path / "run" / "states" / "psnr").glob(".*"))
    train(recipe, tmp_path / "run", device="cpu")


def test_a_second_run_in_the_same_folder_raises_an_error(images, tmp_path):
    refused = []

    def begin_another(event) -> None:
        if isinstance(event, StageStarted):
            script = (
                "import sys, filelock\n"
                "try: filelock.FileLock(sys.argv[1], timeout=0).acquire()\n"
                "except filelock.Timeout: print('locked')\n"
            )
            command = [sys.executable, "-c", script, str(tmp_path / "run" / ".lock")]
            refused.append(subprocess.check_output(command, text=True, cwd=ROOT))

    train(one_stage(images), tmp_path / "run", device="cpu", events=begin_another)
    assert refused == ["locked\n"]
