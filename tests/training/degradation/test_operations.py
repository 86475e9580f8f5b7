"""Descriptions: written, read back, printed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from training.degradation import Degradation, draw, generic, real_esrgan
from upscale.errors import UsageError


@pytest.mark.parametrize("settings", [real_esrgan(), real_esrgan(2, "official"), generic()])
def test_descriptions_survive_json_exactly(settings):
    for degradation in draw(settings, 20, np.random.default_rng(3)):
        text = degradation.to_json()
        assert "\n" not in text
        assert Degradation.from_json(text) == degradation


def test_a_description_can_be_read_by_people():
    lines = str(draw(real_esrgan(), 1, np.random.default_rng(1))[0]).splitlines()
    assert lines[2:4] == ["grey Poisson noise 1.64", "JPEG 50"]
    assert all(len(line) < 60 for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"mode": "corrected", "operations": [{"do": "melt"}]}',
        '{"mode": "corrected", "operations": [{"do": "jpeg"}]}',
        '{"mode": "corrected", "operations": [{"do": "jpeg", "quality": 9, "depth": 8}]}',
        '{"mode": "approximate", "operations": []}',
    ],
)
def test_what_is_no_description_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as refused:
        Degradation.from_json(text)
    assert "\n" not in str(refused.value)


def test_an_empty_degradation_is_one(smooth):
    assert Degradation.from_json(json.dumps({"mode": "corrected", "operations": []})).mode
