from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize
import scipy.special
import scipy.stats

from upscale.metrics.scene_statistics import fit, mscn


def window():
    steps = np.arange(7) - 3
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * (7 / 6) ** 2))
    return weights / weights.sum()


@pytest.mark.parametrize("constant", [1, 1 / 255])
def test_coefficients_are_normalised_by_local_mean_and_deviation(constant):
    plane = np.random.default_rng(0).random((40, 30))
    mean = scipy.ndimage.convolve(plane, window(), mode="nearest")
    variance = scipy.ndimage.convolve(plane**2, window(), mode="nearest") - mean**2
    expected = (plane - mean) / (np.sqrt(np.abs(variance)) + constant)
    np.testing.assert_allclose(mscn(plane, constant), expected, atol=1e-9)


def test_window_equals_that_of_the_release(official):
    stored = np.load(official.folder / "metrics" / "niqe_pris_params.npz")
    np.testing.assert_allclose(window(), stored["gaussian_window"], atol=1e-12)


def by_moments(samples):
    """The equations of the paper, solved by a root finder."""
    left = np.sqrt(np.mean(samples[samples < 0] ** 2))
    right = np.sqrt(np.mean(samples[samples > 0] ** 2))
    ratio = left / right
    moments = np.mean(np.abs(samples)) ** 2 / np.mean(samples**2)
    expected = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2

    def difference(shape):
        gamma = scipy.special.gamma
        return gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape)) - expected

    return scipy.optimize.brentq(difference, 0.2, 10), left, right


def test_fit_solves_the_moment_equations():
    generator = np.random.default_rng(1)
    rows = np.stack(
        [
            generator.normal(size=5000),
            generator.laplace(size=5000),
            generator.normal(size=5000) * np.where(generator.random(5000) < 0.5, 1, 3),
            np.abs(generator.normal(size=5000)) * np.where(generator.random(5000) < 0.3, -2, 1),
        ]
    )
    result = fit(rows)
    for row, *numbers in zip(rows, result.shape, result.left, result.right, strict=True):
        assert numbers == pytest.approx(by_moments(row), abs=6e-4)


@pytest.mark.parametrize("shape", [0.5, 1, 2, 4])
def test_fit_recovers_generalised_gaussians(shape):
    samples = scipy.stats.gennorm.rvs(shape, size=400_000, random_state=2)
    result = fit(samples[None])
    assert result.shape[0] == pytest.approx(shape, rel=0.02)
    assert result.mean[0] == pytest.approx(0, abs=0.02 * samples.std())
    # a generalised Gaussian of scale 1 deviates by its own scale ratio
    assert result.left[0] * result.scale_ratio[0] == pytest.approx(1, rel=0.02)


def test_rows_are_fitted_independently():
    rows = np.random.default_rng(3).normal(size=(3, 1000)) ** 3
    one_by_one = [fit(row[None]) for row in rows]
    for name in ("shape", "left", "right", "mean"):
        alone = [getattr(result, name)[0] for result in one_by_one]
        np.testing.assert_array_equal(getattr(fit(rows), name), alone)


def test_fit_agrees_with_basicsr(official):
    block = np.random.default_rng(4).normal(size=(96, 96))
    expected = official.compute_feature(block)
    result = fit(block.reshape(1, -1))
    assert result.shape[0] == pytest.approx(expected[0])
    assert (result.left + result.right)[0] * result.scale_ratio[0] / 2 == pytest.approx(expected[1])


def test_side_without_samples_is_nan():
    result = fit(np.stack([np.zeros(50), np.ones(50), np.linspace(-1, 1, 50)]))
    assert np.isnan(result.left[:2]).all() and np.isnan(result.right[0])
    assert np.isfinite([result.left[2], result.right[2]]).all()
