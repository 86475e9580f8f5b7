"""Verdicts about kernels on disk and in records of unfinished videos."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.kernels.standins import card
from upscale.kernels.tile_configs import TWO_ROWS, Shape, TileConfig
from upscale.kernels.verdicts import (
    Verdict,
    card_key,
    find_verdicts,
    from_record,
    to_record,
)

CARD = card()
NARROW, WIDE = (Shape((each, 0), 32, 1, 1, 0, "float16") for each in (32, 64))
FOUND = {NARROW: Verdict(TWO_ROWS), WIDE: Verdict(None, "torch is faster")}


class Trial:
    """A trial that returns known verdicts and counts its calls."""

    def __init__(self, verdicts=FOUND):
        self.verdicts, self.tried = verdicts, []

    def __call__(self, card, shapes):
        self.tried.append(set(shapes))
        return {shape: self.verdicts[shape] for shape in shapes}


def test_each_shape_is_tried_once_and_found_on_disk_later(tmp_path):
    trial = Trial()
    assert find_verdicts(CARD, [NARROW], tmp_path, trial) == {NARROW: FOUND[NARROW]}
    assert find_verdicts(CARD, [NARROW, WIDE], tmp_path, trial) == FOUND
    assert find_verdicts(CARD, [WIDE], tmp_path, trial) == {WIDE: FOUND[WIDE]}
    assert trial.tried == [{NARROW}, {WIDE}]


@pytest.mark.parametrize(
    "other", [replace(CARD, name="Another"), replace(CARD, versions=("torch 1", "Triton 2"))]
)
def test_another_card_or_version_is_tried_anew(tmp_path, other):
    find_verdicts(CARD, [NARROW], tmp_path, Trial())
    trial = Trial()
    find_verdicts(other, [NARROW], tmp_path, trial)
    assert trial.tried == [{NARROW}]
    assert find_verdicts(CARD, [NARROW], tmp_path, Trial({})) == {NARROW: FOUND[NARROW]}


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[[1, 2]]",
     lambda text: text.replace("32", '"many"'), lambda text: "\udcff"],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_rewritten(tmp_path, damage):
    find_verdicts(CARD, [NARROW, WIDE], tmp_path, Trial())
    path = tmp_path / f"{card_key(CARD)}.json"
    text = path.read_text()
    path.write_bytes(damage(text).encode(errors="surrogateescape"))
    trial = Trial()
    assert find_verdicts(CARD, [NARROW, WIDE], tmp_path, trial) == FOUND
    assert trial.tried == [{NARROW, WIDE}]
    assert path.read_text() == text


def test_a_failure_that_may_pass_is_not_kept(tmp_path):
    passing = {NARROW: Verdict(None, "no C compiler", lasting=False), WIDE: FOUND[WIDE]}
    assert find_verdicts(CARD, [NARROW, WIDE], tmp_path, Trial(passing)) == passing
    trial = Trial()
    assert find_verdicts(CARD, [NARROW, WIDE], tmp_path, trial) == FOUND
    assert trial.tried == [{NARROW}]


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(tmp_path):
    folder = tmp_path / "file"
    folder.touch()
    trial = Trial()
    for _ in range(2):
        assert find_verdicts(CARD, [NARROW], folder, trial) == {NARROW: FOUND[NARROW]}
    assert len(trial.tried) == 2


def test_nothing_but_whole_files_is_left_in_the_cache(tmp_path):
    find_verdicts(CARD, [NARROW], tmp_path, Trial())
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".json"]


def test_a_record_returns_the_verdicts_of_its_card_only():
    record = json.loads(json.dumps(to_record(CARD, FOUND)))
    assert from_record(CARD, record) == FOUND
    assert from_record(replace(CARD, versions=()), record) == {}
    assert from_record(CARD, {card_key(CARD): [[{"channels": 1}, 2]]}) == {}
    assert from_record(CARD, {}) == {}


def test_names_of_cards_are_names_of_files():
    key = card_key(replace(CARD, name="NVIDIA RTX A1000/6GB: Laptop"))
    assert key.startswith("NVIDIA-RTX-A1000-6GB--Laptop-")
    assert set(FOUND[NARROW].config.__slots__) == set(TileConfig.__slots__)
