"""Distributions of sampled degradations (section 4.1 of the paper)."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError
from upscale_training.degradation import (
    DegradationSettings,
    classical,
    generic,
    real_esrgan,
    sample,
)
from upscale_training.degradation.operations import Blur, GaussianNoise, Jpeg, PoissonNoise, Resize
from upscale_training.degradation.steps import (
    BlurStep,
    EitherOrder,
    Families,
    JpegStep,
    NoiseStep,
    ResizeStep,
)

from upscale.errors import UsageError

COUNT = 8000
BACK = ResizeStep(up=0, down=0, keep=1, of="result")


@pytest.fixture(scope="module")
def many():
    """Many samples of the paper's chain."""
    return sample(real_esrgan(), COUNT, np.random.default_rng(5))


def firsts(many):
    """The first process of each."""
    return [each.operations[:4] for each in many]


def shares(values):
    count = Counter(values)
    return {key: number / count.total() for key, number in count.items()}


def near(found, expected):
    assert found.keys() == expected.keys()
    for key, share in expected.items():
        deviation = math.sqrt(share * (1 - share) / COUNT)
        assert abs(found[key] - share) < 4.5 * deviation + 1e-3, key


def test_families_come_as_often_as_in_the_paper(many):
    expected = {family: 0.9 * weight for family, weight in Families().weights().items()}
    near(shares(each[0].family for each in firsts(many)), expected | {"sinc": 0.1})


def test_sizes_of_kernels_are_odd_and_equally_likely(many):
    found = shares(each[0].size for each in firsts(many))
    near(found, dict.fromkeys(range(7, 22, 2), 1 / 8))


def test_blur_parameters_fill_their_ranges(many):
    blurs = [each[0] for each in firsts(many)]
    spread = [blur.sigma_x for blur in blurs if blur.family != "sinc"]
    assert 0.2 <= min(spread) < 0.21 and 2.99 < max(spread) <= 3
    turns = [blur.rotation for blur in blurs if blur.family == "aniso"]
    assert min(turns) < -3.1 and max(turns) > 3.1 and abs(np.mean(turns)) < 0.2
    beta = [blur.beta for blur in blurs if blur.family == "generalised_iso"]
    assert 0.5 <= min(beta) < 0.52 and 3.9 < max(beta) <= 4
    assert abs(np.mean([each < 1 for each in beta]) - 0.5) < 0.08
    for small in (True, False):
        cutoffs = [b.cutoff for b in blurs if b.family == "sinc" and (b.size < 13) == small]
        assert 0 < min(cutoffs) - math.pi / (3 if small else 5) < 0.1
        assert 0 < math.pi - max(cutoffs) < 0.1


def test_resizes_go_up_down_or_nowhere_by_each_filter(many):
    resizes = [each[1] for each in firsts(many)]
    ways = shares(np.sign(resize.factor - 1) for resize in resizes)
    near(ways, {1.0: 0.2, -1.0: 0.7, 0.0: 0.1})
    near(shares(r.kind for r in resizes), dict.fromkeys(("area", "bilinear", "bicubic"), 1 / 3))
    factors = [resize.factor for resize in resizes]
    assert 0.15 <= min(factors) < 0.16 and 1.49 < max(factors) <= 1.5


def test_noise_is_gaussian_or_poisson_in_colour_or_grey(many):
    noises = [each[2] for each in firsts(many)]
    near(shares(type(each) for each in noises), {GaussianNoise: 0.5, PoissonNoise: 0.5})
    near(shares(each.grey for each in noises), {True: 0.4, False: 0.6})
    assert len({each.seed for each in noises}) == COUNT
    sigma = [each.sigma for each in noises if isinstance(each, GaussianNoise)]
    assert 1 <= min(sigma) < 1.1 and 29.9 < max(sigma) <= 30


def test_the_second_process_ends_in_either_order(many):
    lasts = [each.operations[4:] for each in many]
    skipped = [not isinstance(each[0], Blur) for each in lasts]
    near(shares(skipped), {True: 0.2, False: 0.8})
    sinc = [
        any(isinstance(part, Blur) and part.family == "sinc" for part in each[-2:])
        for each in lasts
    ]
    near(shares(sinc), {True: 0.8, False: 0.2})
    first = [isinstance(each[-1], Jpeg) for each in lasts]
    near(shares(first), {True: 0.5, False: 0.5})
    for each in lasts:
        [resize_back] = [part for part in each[-3:] if isinstance(part, Resize)][-1:]
        assert (resize_back.factor, resize_back.scale) == (1, 4)


def test_samples_of_a_batch_are_independent(many):
    """Values that basicsr samples once per batch differ between neighbours."""
    batch = [each.operations for each in many[:48]]
    assert len({each[1].factor for each in batch}) > 30
    assert len({each[1].kind for each in batch}) == 3
    assert len({type(each[2]) for each in batch}) == 2
    assert len({type(each[-1]) for each in batch}) > 1


@pytest.mark.parametrize("seed", range(8))
def test_official_samples_share_what_basicsr_shares(seed):
    found = sample(real_esrgan(4, "official"), 24, np.random.default_rng(seed))
    finals = [final_sincs(each) for each in found]
    # Its data set samples the final filter for each sample, 0.8 of them; its model all that skips.
    assert 10 < sum(map(len, finals)) < 24
    without = [
        [part for part in each.operations if part not in final]
        for each, final in zip(found, finals, strict=True)
    ]
    for operations in zip(*without, strict=True):
        assert len({type(each) for each in operations}) == 1
        if isinstance(operations[0], Resize):
            assert len(set(operations)) == 1
        elif isinstance(operations[0], GaussianNoise | PoissonNoise):
            assert len({each.seed for each in operations}) == 1
            assert len(set(operations)) > 20
        else:
            assert len(set(operations)) > 20


def final_sincs(degradation):
    """The final sinc filter, if there is one: what is blurred after the last noise."""
    last = max(
        place
        for place, each in enumerate(degradation.operations)
        if isinstance(each, GaussianNoise | PoissonNoise)
    )
    return [each for each in degradation.operations[last:] if isinstance(each, Blur)]


def test_the_same_generator_gives_the_same_samples():
    settings = real_esrgan()
    first, second = (sample(settings, 5, np.random.default_rng(9)) for _ in range(2))
    assert first == second
    assert first != sample(settings, 5, np.random.default_rng(10))


def test_classical_is_bicubic_alone():
    [found] = sample(classical(3), 1, np.random.default_rng(0))
    assert found.operations == (Resize("bicubic", 1, 3),)


def test_generic_is_samsungs_chain():
    found = [each.operations for each in sample(generic(), 2000, np.random.default_rng(0))]
    assert {(each[0].family, each[0].size) for each in found} == {("iso", 15)}
    assert {each[1].kind for each in found} == {"nearest", "bilinear", "bicubic", "lanczos"}
    kinds = Counter(tuple(type(part) for part in each[2:]) for each in found)
    assert set(kinds) == {(GaussianNoise,), (PoissonNoise,), (GaussianNoise, PoissonNoise)}
    assert min(kinds.values()) > 580
    peaks = [part.peak for each in found for part in each[2:] if isinstance(part, PoissonNoise)]
    assert 50 <= min(peaks) < 51 and 149 < max(peaks) <= 150


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlurStep(probability=1.2),
        lambda: BlurStep(sizes=(8, 21)),
        lambda: BlurStep(sigma=(3, 0.2)),
        lambda: BlurStep(sigma=(0, 3)),
        lambda: BlurStep(generalised_beta=(2, 4)),
        lambda: BlurStep(plateau_beta=(0.2, 0.9)),
        lambda: BlurStep(large_cutoff=(1, 4)),
        lambda: Families(0, 0, 0, 0, 0, 0),
        lambda: Families(iso=-1),
        lambda: ResizeStep(factors=(1.1, 1.5)),
        lambda: ResizeStep(kinds=()),
        lambda: NoiseStep(0, 0, 0, 0),
        lambda: NoiseStep(grey=-0.1),
        lambda: JpegStep(quality=(0, 95)),
        lambda: JpegStep(quality=(30, 101)),
        lambda: EitherOrder((), (), probability=2),
    ],
)
def test_steps_with_impossible_values_raise_an_error(make):
    with pytest.raises(ValidationError):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DegradationSettings((BlurStep(),)),
        lambda: DegradationSettings((ResizeStep(),)),
        lambda: DegradationSettings((ResizeStep(of="result"),)),
        lambda: real_esrgan(0),
        lambda: DegradationSettings((EitherOrder((ResizeStep(),), (BACK,)),)),
        lambda: DegradationSettings((EitherOrder((BACK,), (ResizeStep(),)),)),
        lambda: DegradationSettings(generic().steps, mode="official"),
        lambda: DegradationSettings((NoiseStep(peak=(50, 150)), BACK), mode="official"),
        lambda: DegradationSettings((JpegStep(quality=(100, 100)), BACK), mode="official"),
    ],
)
def test_impossible_chains_raise_an_error_of_one_line(make):
    with pytest.raises(UsageError) as caught:
        make()
    assert "\n" not in str(caught.value)
