"""GAN losses against basicsr's, against formulas, and the gradients that the generator gets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from upscale_training.losses import (
    AdversarialLoss,
    discriminator_terms,
    generator_term,
    relativistic_discriminator_terms,
    relativistic_generator_term,
)
from upscale_training.networks import UNetDiscriminator

from tests.training.official_losses import load_official

KINDS = ["vanilla", "lsgan", "wgan", "wgan-softplus", "hinge"]


@pytest.fixture(scope="module")
def official():
    return load_official()


def logits(seed, shape=(3, 1, 4, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_terms_equal_the_official_ones_and_only_the_generators_is_weighted(official, kind):
    theirs = official.GANLoss(kind.replace("-", "_"), loss_weight=0.1)
    ours = AdversarialLoss(kind, weight=0.1)
    real, fake = logits(0), logits(1)

    def identity(predictions):
        return predictions

    terms = ours.discriminator(identity, real, fake)
    torch.testing.assert_close(terms.real, theirs(real, True, is_disc=True))
    torch.testing.assert_close(terms.fake, theirs(fake, False, is_disc=True))
    torch.testing.assert_close(terms.total, terms.real + terms.fake)
    torch.testing.assert_close(
        ours.generator(identity, fake, real), theirs(fake, True, is_disc=False)
    )


HAND = {
    "vanilla": lambda x: -torch.sigmoid(-x),
    "lsgan": lambda x: 2 * (x - 1),
    "wgan": lambda x: -torch.ones_like(x),
    "wgan-softplus": lambda x: -torch.sigmoid(-x),
    "hinge": lambda x: -torch.ones_like(x),
}
"""Derivative of the generator's term by one prediction."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_generators_gradient_is_that_derived_by_hand(kind):
    # G(x) = gain * x, D(y) = slope * sum of y's pixels + offset: d loss / d gain by the chain rule.
    x = logits(2, (4, 3, 2, 2))
    gain = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    slope, offset = 0.3, -0.2
    predictions = slope * (gain * x).sum((1, 2, 3)) + offset
    generator_term(predictions, kind).backward()
    by_prediction = HAND[kind](predictions.detach()) / len(x)
    expected = (by_prediction * slope * x.sum((1, 2, 3))).sum()
    assert expected.abs() > 1e-3
    torch.testing.assert_close(gain.grad, expected)


def test_the_relativistic_gradient_is_that_derived_by_hand():
    # Equation 2, halved: with r = C(x_r) - mean C(x_f) and f = C(x_f) - mean C(x_r),
    # d/dC(x_f)_i = (-mean sigmoid(r) - sigmoid(-f_i)) / (2 n).
    real, fake = logits(0, (6,)), logits(1, (6,)).requires_grad_()
    relativistic_generator_term(real, fake).backward()
    less = real - fake.detach().mean()
    more = fake.detach() - real.mean()
    expected = (-torch.sigmoid(less).mean() - torch.sigmoid(-more)) / (2 * len(fake))
    torch.testing.assert_close(fake.grad, expected)


def test_relativistic_terms_are_equations_1_and_2_halved():
    real, fake = logits(0), logits(1)
    real_more = torch.sigmoid(real - fake.mean())  # D_Ra(x_r, x_f)
    fake_more = torch.sigmoid(fake - real.mean())  # D_Ra(x_f, x_r)
    equation_1 = -real_more.log().mean() - (1 - fake_more).log().mean()
    equation_2 = -(1 - real_more).log().mean() - fake_more.log().mean()
    torch.testing.assert_close(relativistic_discriminator_terms(real, fake).total, equation_1 / 2)
    torch.testing.assert_close(relativistic_generator_term(real, fake), equation_2 / 2)


def test_relativistic_least_squares_have_labels_around_zero():
    # RaLSGAN: differences to the other side's mean, towards 1 and -1.
    real, fake = logits(0) + 3, logits(1)
    more_real, more_fake = real - fake.mean(), fake - real.mean()
    discriminator = (more_real - 1).square().mean() + (more_fake + 1).square().mean()
    generator = (more_real + 1).square().mean() + (more_fake - 1).square().mean()
    terms = relativistic_discriminator_terms(real, fake, "lsgan")
    torch.testing.assert_close(terms.total, discriminator / 2)
    torch.testing.assert_close(relativistic_generator_term(real, fake, "lsgan"), generator / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_relativistic_generator_has_a_gradient_with_every_loss(kind):
    fake = logits(1).requires_grad_()
    relativistic_generator_term(logits(0), fake, kind).backward()
    assert fake.grad.abs().max() > 1e-4
    assert fake.grad.sum() < 0  # more real is better


def judge_and_generator():
    torch.manual_seed(5)
    judge = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()
    return judge, nn.Conv2d(3, 3, 3, padding=1).double()


def official_step(official, low, real):
    """Run basicsr's own training step of ESRGAN; return its losses and both networks."""
    judge, generator = judge_and_generator()
    optimiser = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
    run = SimpleNamespace(
        net_d=judge, net_g=generator, lq=low, gt=real, optimizer_g=optimiser,
        optimizer_d=optimiser, net_d_iters=1, net_d_init_iters=0, cri_pix=None,
        cri_perceptual=None, cri_gan=official.GANLoss("vanilla", loss_weight=0.005),
        reduce_loss_dict=dict, ema_decay=0,
    )  # fmt: skip
    official.ESRGANModel.optimize_parameters(run, 1)
    return run.log_dict, judge, generator


def our_step(loss, low, real):
    judge, generator = judge_and_generator()
    fake = generator(low)
    judge.requires_grad_(False)
    term = loss.generator(judge, fake, real)
    term.backward()
    judge.requires_grad_(True)
    terms = loss.discriminator(judge, real, fake)
    terms.total.backward()
    return {"l_g_gan": term, "l_d_real": terms.real, "l_d_fake": terms.fake}, judge, generator


def gradients(network):
    return [parameter.grad for parameter in network.parameters()]


def test_a_relativistic_step_is_basicsrs_but_for_the_gradient_through_the_means(official):
    low, real = logits(2, (2, 3, 9, 9)), logits(3, (2, 3, 9, 9))
    losses, judge, generator = official_step(official, low, real)

    plain = AdversarialLoss(relativistic=True, weight=0.005)
    ours, whole_judge, our_generator = our_step(plain, low, real)
    for name, value in ours.items():
        torch.testing.assert_close(value, losses[name])
    torch.testing.assert_close(gradients(our_generator), gradients(generator))

    cut = AdversarialLoss(relativistic=True, mean=lambda values: values.mean().detach())
    _, cut_judge, _ = our_step(cut, low, real)
    torch.testing.assert_close(gradients(cut_judge), gradients(judge))
    assert not torch.allclose(gradients(whole_judge)[0], gradients(judge)[0])


@pytest.mark.parametrize("relativistic", [False, True])
def test_gradients_reach_the_generator_and_not_the_wrong_network(relativistic):
    torch.manual_seed(0)
    judge, generator = UNetDiscriminator(3, 4), nn.Conv2d(3, 3, 3, padding=1)
    loss = AdversarialLoss(relativistic=relativistic)
    real = torch.rand(2, 3, 16, 16)
    fake = generator(torch.rand(2, 3, 16, 16))

    judge.requires_grad_(False)
    loss.generator(judge, fake, real).backward(retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in gradients(generator))
    assert all(gradient is None for gradient in gradients(judge))

    generator.zero_grad()
    judge.requires_grad_(True)
    loss.discriminator(judge, real, fake).total.backward()
    assert all(gradient is None for gradient in gradients(generator))
    assert all(gradient.abs().max() > 0 for gradient in gradients(judge)[:-1])


def test_the_generators_gradient_through_the_unet_agrees_with_differences():
    torch.manual_seed(0)
    judge = UNetDiscriminator(3, 2).double().eval().requires_grad_(False)
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: generator_term(judge(x)), images)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_predictions_are_summed_in_single(kind):
    # 300 * 300 predictions of 1000: their sum and squares overflow half precision.
    real = torch.full((1, 1, 300, 300), 1000.0).half()
    terms = discriminator_terms(real, -real, kind)
    relative = relativistic_discriminator_terms(real, -real, kind)
    for value in (terms.total, relative.total, generator_term(-real, kind)):
        assert value.dtype == torch.float32
        assert value.isfinite()


def test_extreme_predictions_stay_finite():
    fake = torch.tensor([-1e4, 1e4], requires_grad=True)
    generator_term(fake).backward()
    assert fake.grad.tolist() == [-0.5, 0]


def test_the_gradient_penalty_bounds_what_wgan_would_let_grow():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def slope(penalty: float) -> float:
        torch.manual_seed(0)
        critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
        loss = AdversarialLoss("wgan", penalty=penalty)
        optimiser = torch.optim.Adam(critic.parameters(), lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            terms = loss.discriminator(critic, images, images * 0.5)
            terms.total.backward()
            optimiser.step()
        return critic[1].weight.norm().item()

    assert slope(10) == pytest.approx(1, abs=0.3)
    assert slope(0) > 10


def test_the_mean_predictions_are_those_of_the_discriminator():
    loss = AdversarialLoss()
    real, fake = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.25)
    terms = loss.discriminator(lambda x: 2 * x, real, fake)
    assert terms.means is not None
    assert [mean.item() for mean in terms.means] == [1.0, 0.5]
