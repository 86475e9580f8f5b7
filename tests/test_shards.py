from __future__ import annotations

import pytest

from upscale.errors import UsageError
from upscale.options import load_options
from upscale.shards import Shard, parse_shard, slurm_shard

NO_FILE = {"UPSCALE_CONFIG": ""}


@pytest.mark.parametrize("total", [0, 1, 15, 16, 1000])
def test_shards_cover_all_work_once(total):
    shards = [parse_shard("--shard", f"{number}/16") for number in range(1, 17)]
    for index in range(total):
        assert sum(shard.has(index) for shard in shards) == 1
    assert [place for shard in shards for place in shard.span(total)] == list(range(total))
    sizes = [len(shard.span(total)) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/2/3", "1.5/2"])
def test_other_texts_are_usage_errors(text):
    with pytest.raises(UsageError, match=r"^--shard: "):
        parse_shard("--shard", text)


def array(**values):
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()} | NO_FILE


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        (array(ID=0, COUNT=16, MIN=0), Shard(1, 16)),
        (array(ID=16, COUNT=16, MIN=1), Shard(16, 16)),
        (array(ID=7, COUNT=4, MIN=1, STEP=2), Shard(4, 4)),
        (array(ID=1, COUNT=1), Shard(1, 1)),
    ],
)
def test_auto_is_the_task_of_a_job_array(environ, shard):
    assert slurm_shard(environ) == shard
    assert load_options({"shard": "auto"}, environ).run.shard == shard
    assert load_options({}, environ | {"UPSCALE_SHARD": "auto"}).run.shard == shard


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({}, "SLURM_ARRAY_TASK_ID is not set"),
        (array(ID=3), "SLURM_ARRAY_TASK_COUNT is None"),
        (array(ID="x", COUNT=3), "is 'x', not a whole number"),
        (array(ID=7, COUNT=3, MIN=1), "use an array without gaps, such as --array=1-3"),
        (array(ID=4, COUNT=4, MIN=1, STEP=2), "in steps of 2"),
    ],
)
def test_auto_outside_a_regular_array_is_a_usage_error(environ, text):
    with pytest.raises(UsageError, match=text):
        slurm_shard(environ)


def test_the_shard_is_an_option_like_others():
    assert load_options({"shard": "3/16"}, NO_FILE).run.shard == Shard(3, 16)
    environ = NO_FILE | {"UPSCALE_SHARD": "2/4"}
    assert load_options({}, environ).run.shard == Shard(2, 4)
    assert load_options({"shard": "1/4"}, environ).run.shard == Shard(1, 4)
