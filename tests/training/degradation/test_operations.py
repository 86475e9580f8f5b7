"""Descriptions: written, read back, printed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from upscale_training.degradation import Degradation, generic, real_esrgan, sample
from upscale_training.degradation.operations import Blur, GaussianNoise, Jpeg, PoissonNoise, Resize

from upscale.errors import UsageError


@pytest.mark.parametrize("settings", [real_esrgan(), real_esrgan(2, "official"), generic()])
def test_descriptions_survive_json_exactly(settings):
    for degradation in sample(settings, 20, np.random.default_rng(3)):
        text = json.dumps(degradation.as_dict())
        assert Degradation.from_dict(json.loads(text)) == degradation


def test_a_description_is_readable():
    operations = (
        Blur("aniso", 21, 2.31, 0.94, 0.7),
        Resize("area", 0.43),
        PoissonNoise(1.64, True, 1),
        Jpeg(49.7),
        Blur("generalised_iso", 7, 0.51, beta=2.2),
        Resize("bicubic", 0.7, 4),
        GaussianNoise(12.04, False, 2),
        Resize("bilinear", 1, 4),
        Blur("sinc", 13, cutoff=2),
    )
    assert str(Degradation(operations)).splitlines() == [
        "blur aniso 21 2.3/0.9 40°",
        "down 0.43 area",
        "grey poisson 1.64",
        "jpeg 50",
        "blur generalised iso 7 0.5 beta 2.2",
        "to 0.70 of result bicubic",
        "gauss 12.0",
        "to result bilinear",
        "sinc 13 0.64 pi",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"mode": "corrected", "operations": [{"do": "melt"}]}',
        '{"mode": "corrected", "operations": [{"do": "jpeg"}]}',
        '{"mode": "corrected", "operations": [{"do": "jpeg", "quality": 9, "depth": 8}]}',
        '{"mode": "approximate", "operations": []}',
        '{"mode": "corrected", "operations": [{"quality": 9}]}',
        '{"mode": "corrected", "operations": [[]]}',
        *map(
            '{{"mode": "corrected", "operations": [{}]}}'.format,
            [
                '{"do": "jpeg", "quality": "9"}',
                '{"do": "jpeg", "quality": null}',
                '{"do": "jpeg", "quality": 0}',
                '{"do": "jpeg", "quality": NaN}',
                '{"do": "blur", "family": "box", "size": 7}',
                '{"do": "blur", "family": ["iso"], "size": 7}',
                '{"do": "blur", "family": "iso", "size": 8}',
                '{"do": "blur", "family": "iso", "size": 7.0}',
                '{"do": "blur", "family": "iso", "size": 7, "sigma_x": 0}',
                '{"do": "blur", "family": "sinc", "size": 7, "cutoff": 3.2}',
                '{"do": "resize", "kind": "area", "factor": 0}',
                '{"do": "resize", "kind": "area", "factor": Infinity}',
                '{"do": "resize", "kind": "area", "factor": 1, "scale": 0}',
                '{"do": "gaussian", "sigma": -1, "grey": true, "seed": 1}',
                '{"do": "gaussian", "sigma": 1, "grey": 1, "seed": 1}',
                '{"do": "gaussian", "sigma": 1, "grey": true, "seed": -1}',
                '{"do": "poisson", "scale": 1, "grey": true, "seed": 1, "peak": 0}',
            ],
        ),
        '{"mode": "official", "operations": [{"do": "jpeg", "quality": 100}]}',
        '{"mode": "official", "operations": [{"do": "resize", "kind": "lanczos", "factor": 1}]}',
    ],
)
def test_other_values_raise_an_error_of_one_line(text):
    with pytest.raises(UsageError) as caught:
        Degradation.from_dict(json.loads(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_scale_of_a_degradation_is_that_of_its_last_resize(scale):
    [degradation] = sample(real_esrgan(scale), 1, np.random.default_rng(4))
    assert degradation.scale == scale
    assert Degradation((Jpeg(50), Resize("area", 0.5))).scale == 1


def test_unknown_keys_of_a_description_are_ignored():
    [degradation] = sample(real_esrgan(), 1, np.random.default_rng(4))
    added = {"input": "photo.png"} | degradation.as_dict()
    assert Degradation.from_dict(added) == degradation


def test_an_empty_degradation_is_one(smooth):
    assert Degradation.from_dict({"mode": "corrected", "operations": []}).mode
