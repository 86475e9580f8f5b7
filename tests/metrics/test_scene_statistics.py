from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize
import scipy.special
import scipy.stats

from upscale.metrics.scene_statistics import fit, normalised


def window():
    steps = np.arange(7) - 3
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * (7 / 6) ** 2))
    return weights / weights.sum()


@pytest.mark.parametrize("steadier", [1, 1 / 255])
def test_each_sample_is_measured_against_its_surroundings(steadier):
    plane = np.random.default_rng(0).random((40, 30))
    mean = scipy.ndimage.convolve(plane, window(), mode="nearest")
    variance = scipy.ndimage.convolve(plane**2, window(), mode="nearest") - mean**2
    wanted = (plane - mean) / (np.sqrt(np.abs(variance)) + steadier)
    np.testing.assert_allclose(normalised(plane, steadier), wanted, atol=1e-9)


def test_the_window_is_that_of_the_release(official):
    stored = np.load(official.folder / "metrics" / "niqe_pris_params.npz")
    np.testing.assert_allclose(window(), stored["gaussian_window"], atol=1e-12)


def by_moments(samples):
    """The equations of the paper, solved by a root finder."""
    left = np.sqrt(np.mean(samples[samples < 0] ** 2))
    right = np.sqrt(np.mean(samples[samples > 0] ** 2))
    ratio = left / right
    moments = np.mean(np.abs(samples)) ** 2 / np.mean(samples**2)
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2

    def difference(shape):
        gamma = scipy.special.gamma
        return gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape)) - wanted

    return scipy.optimize.brentq(difference, 0.2, 10), left, right


def test_the_fit_solves_the_equations():
    generator = np.random.default_rng(1)
    rows = np.stack(
        [
            generator.normal(size=5000),
            generator.laplace(size=5000),
            generator.normal(size=5000) * np.where(generator.random(5000) < 0.5, 1, 3),
            np.abs(generator.normal(size=5000)) * np.where(generator.random(5000) < 0.3, -2, 1),
        ]
    )
    found = fit(rows)
    for row, *numbers in zip(rows, found.shape, found.left, found.right, strict=True):
        assert numbers == pytest.approx(by_moments(row), abs=6e-4)


@pytest.mark.parametrize("shape", [0.5, 1, 2, 4])
def test_known_distributions_are_recognised(shape):
    samples = scipy.stats.gennorm.rvs(shape, size=400_000, random_state=2)
    found = fit(samples[None])
    assert found.shape[0] == pytest.approx(shape, rel=0.02)
    assert found.mean[0] == pytest.approx(0, abs=0.02 * samples.std())
    # a generalised Gaussian of scale 1 deviates by its own spread
    assert found.left[0] * found.spread[0] == pytest.approx(1, rel=0.02)


def test_rows_are_fitted_apart():
    rows = np.random.default_rng(3).normal(size=(3, 1000)) ** 3
    one_by_one = [fit(row[None]) for row in rows]
    for name in ("shape", "left", "right", "mean"):
        alone = [getattr(found, name)[0] for found in one_by_one]
        np.testing.assert_array_equal(getattr(fit(rows), name), alone)


def test_the_fit_is_that_of_basicsr(official):
    block = np.random.default_rng(4).normal(size=(96, 96))
    wanted = official.compute_feature(block)
    found = fit(block.reshape(1, -1))
    assert found.shape[0] == pytest.approx(wanted[0])
    assert (found.left + found.right)[0] * found.spread[0] / 2 == pytest.approx(wanted[1])


def test_what_has_one_sign_has_no_fit():
    found = fit(np.stack([np.zeros(50), np.ones(50), np.linspace(-1, 1, 50)]))
    assert np.isnan(found.left[:2]).all() and np.isnan(found.right[0])
    assert np.isfinite([found.left[2], found.right[2]]).all()
