"""Losses with weights from gradients and variances, against the formulas of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from upscale_training.losses import (
    PixelLoss,
    gradient_weighted,
    ldl,
    register_loss,
    unregister_loss,
)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 20, 17, generator=generator) for _ in range(3)]


def test_gradients_weigh_differences_as_in_the_paper(images):
    output, target, _ = images
    ours, theirs = output.double().numpy(), target.double().numpy()
    weight = 1.0
    for axis in (0, 1):
        gradients = [
            [[sobel(plane, axis, mode="nearest") for plane in image] for image in images]
            for images in (ours, theirs)
        ]
        gradients = np.asarray(gradients)
        weight = weight * (1 + 4 * np.abs(gradients[0] - gradients[1]))
    expected = (weight * np.abs(ours - theirs)).mean()
    assert gradient_weighted(output, target).item() == pytest.approx(expected, rel=1e-5)


def test_ldl_weighs_artefacts_as_in_the_paper(images):
    output, target, average = images
    total = []
    for ours, truth, other in zip(
        *(each.double().numpy() for each in images[:2]), average.double().numpy(), strict=True
    ):
        residual = np.abs(truth - ours).sum(0)
        padded = np.pad(residual, 3, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
        weight = residual.var(ddof=1) ** 0.2 * windows.var((-1, -2), ddof=1)
        weight[residual < np.abs(truth - other).sum(0)] = 0
        total.append((weight * np.abs(ours - truth)).mean())
    assert ldl(output, target, average).item() == pytest.approx(np.mean(total), rel=1e-4)


def test_the_weights_of_ldl_get_no_gradient(images):
    output, target, average = images
    output.requires_grad_()
    ldl(output, target, average).backward()
    weight = output.grad / (output.detach() - target).sign()
    assert (weight >= -1e-12).all() and (weight > 0).any()
    assert torch.allclose(weight[:, 0], weight[:, 1])


def test_only_losses_that_ask_for_it_get_the_output_of_the_average(images):
    output, target, average = images
    assert PixelLoss("ldl").needs_average and not PixelLoss("l1").needs_average
    assert PixelLoss("ldl", 2.0)(output, target, average) == 2 * ldl(output, target, average)
    register_loss("mean-average", lambda output, target, average: average.mean())
    try:
        assert PixelLoss("mean-average")(output, target, average) == average.mean()
    finally:
        unregister_loss("mean-average")


def test_dists_is_that_of_the_metric_and_has_gradients(tmp_path):
    from upscale_training.losses import DistsLoss

    from upscale.metrics.backbones import vgg16
    from upscale.metrics.perceptual import Dists, DistsNetwork

    torch.manual_seed(0)
    network = DistsNetwork(vgg16(l2_pooling=True), *torch.rand(2, 1475))
    one, other = np.random.default_rng(0).random((2, 2, 32, 40, 3), np.float32)
    metric = Dists(network, "cpu")
    expected = np.mean([metric(a, b) for a, b in zip(one, other, strict=True)])
    output, target = (torch.from_numpy(each).permute(0, 3, 1, 2) for each in (one, other))
    output.requires_grad_()
    loss = DistsLoss(network, weight=0.5)(output, target)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-4)
    loss.backward()
    assert output.grad.isfinite().all() and output.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
