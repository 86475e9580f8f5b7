"""Runs that are killed anywhere, and gone on with, beside runs that are not."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from upscale_training.loop.state import saved_states
from upscale_training.recipe import Recipe

from tests.training.loop.runs import check_same, finish, one_stage, start, tiny
from upscale.checkpoints import read_state_dict

MEASURED = ("images_per_second", "seconds_left", "shares")


def lines(folder: Path) -> list[dict]:
    """The log without what differs from one time to the next."""
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in found]


def check_equal(one: Path, other: Path, recipe: Recipe) -> None:
    """Both runs have the same weights, states and logs, bit for bit."""
    assert lines(one) == lines(other)
    for stage in recipe.stages:
        name = f"{recipe.name}-{stage.name}.safetensors"
        check_same(read_state_dict(one / name), read_state_dict(other / name))
        states = [saved_states(folder / "states" / stage.name) for folder in (one, other)]
        assert [s.info.step for s in states[0]] == [s.info.step for s in states[1]]
        for mine, theirs in zip(*states, strict=True):
            check_same(mine.common(), theirs.common())
            check_same(mine.own(0), theirs.own(0))


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory) -> tuple[Recipe, Path, int]:
    """A run of both stages that nothing happened to, and how many moments it had."""
    recipe, folder = tiny(images), tmp_path_factory.mktemp("undisturbed") / "run"
    return recipe, folder, int(finish(start(recipe, folder)).split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes cannot be copied there")
def test_a_run_killed_several_times_equals_an_uninterrupted_one(undisturbed, tmp_path):
    recipe, reference, moments = undisturbed
    draw = random.Random(0)
    kills = [sorted(draw.sample(range(moments), 3), reverse=True) for _ in range(4)]
    kills += [[draw.randrange(moments)] for _ in range(6)]
    texts = ["+".join(map(str, each)) for each in kills]
    finish(start(recipe, tmp_path / "runs", "--kill", *texts))
    for number in range(len(kills)):
        check_equal(reference, tmp_path / "runs" / str(number), recipe)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes cannot be copied there")
def test_a_run_killed_at_any_moment_of_a_save_resumes_exactly(images, tmp_path):
    recipe = one_stage(images)
    moments = int(finish(start(recipe, tmp_path / "reference")).split()[-1])
    kills = [str(moment) for moment in range(moments)]
    finish(start(recipe, tmp_path / "runs", "--kill", *kills))
    for number in range(moments):
        folder = tmp_path / "runs" / str(number)
        check_equal(tmp_path / "reference", folder, recipe)
        left = [path.name for path in (folder / "states" / "psnr").iterdir()]
        assert left == ["00000003"]
