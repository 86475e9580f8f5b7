"""GAN losses: the generator's term and the discriminator's, as separate functions.

A discriminator's predictions are logits of any shape, higher for more real. The discriminator
must not take gradients while the generator's term is computed (`requires_grad_(False)`, not
`no_grad`: the gradient goes through it), and the fakes that it trains on are detached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.losses.precision import widened

GanKind = Literal["vanilla", "lsgan", "wgan", "wgan-softplus", "hinge"]
"""Goodfellow et al. (arXiv 1406.2661, non-saturating), Mao et al. (arXiv 1611.04076), Arjovsky et
al. (arXiv 1701.07875; the Lipschitz bound is the discriminator's matter), StyleGAN2's logistic
loss (arXiv 1912.04958), and Lim and Ye (arXiv 1705.02894)."""

Mean = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DiscriminatorTerms:
    """What a discriminator minimises, never weighted.

    Attributes:
        real: scalar for the true images.
        fake: scalar for the generator's.
    """

    real: Tensor
    fake: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.real + self.fake


def generator_term(fake: Tensor, kind: GanKind = "vanilla") -> Tensor:
    """Return what the generator minimises, a scalar.

    The GAN loss of Real-ESRGAN (arXiv 2107.10833, section 4.1): -log D(G(x)) for `vanilla`.

    Args:
        fake: predictions for the generator's images, with their gradient.
        kind: of the loss.
    """
    if kind == "hinge":
        return -widened(fake).mean()
    return _towards(fake, True, kind)


def discriminator_terms(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla"
) -> DiscriminatorTerms:
    """Return what the discriminator minimises.

    Args:
        real: predictions for true images.
        fake: predictions for the generator's images, which were detached.
        kind: of the loss.
    """
    return DiscriminatorTerms(_towards(real, True, kind), _towards(fake, False, kind))


def relativistic_generator_term(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla", mean: Mean = torch.mean
) -> Tensor:
    """Return what the generator minimises against a relativistic average discriminator.

    ESRGAN (arXiv 1809.00219), equation 2, halved as the official code does. For the other kinds
    see Jolicoeur-Martineau (arXiv 1807.00734): the discriminator's loss with its labels swapped,
    which are 1 and -1 for `lsgan` (basicsr keeps 1 and 0).

    Args:
        real: predictions for the true images.
        fake: predictions for the generator's, with their gradient.
        kind: of the loss.
        mean: takes the mean over the batch, as a scalar; several processes need one that also
            averages over them.
    """
    real, fake = widened(real), widened(fake)
    less_real = _towards(real - mean(fake), False, kind, least=-1)
    more_real = _towards(fake - mean(real), True, kind, least=-1)
    return (less_real + more_real) / 2


def relativistic_discriminator_terms(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla", mean: Mean = torch.mean
) -> DiscriminatorTerms:
    """Return what a relativistic average discriminator minimises.

    ESRGAN (arXiv 1809.00219), equation 1, halved as the official code does. The gradient is the
    equation's: it also goes through the means. Basicsr cuts it there; for that, give this a
    `mean` that detaches.

    Args:
        real: predictions for the true images.
        fake: predictions for the generator's images, which were detached.
        kind: of the loss.
        mean: as for `relativistic_generator_term`.
    """
    real, fake = widened(real), widened(fake)
    more_real = _towards(real - mean(fake), True, kind, least=-1)
    less_real = _towards(fake - mean(real), False, kind, least=-1)
    return DiscriminatorTerms(more_real / 2, less_real / 2)


def _towards(predictions: Tensor, real: bool, kind: GanKind, least: float = 0) -> Tensor:
    """Return a loss that falls as predictions come to look real, or fake; `least` is lsgan's fake.

    Differences of predictions lie around 0, so that their labels do, too.
    """
    predictions = widened(predictions)
    signed = predictions if real else -predictions
    if kind == "lsgan":
        return (predictions - (1 if real else least)).square().mean()
    if kind == "wgan":
        return -signed.mean()
    if kind == "hinge":
        return F.relu(1 - signed).mean()
    return F.softplus(-signed).mean()  # of a logit, the binary cross-entropy is that, too


@dataclass(frozen=True, slots=True)
class AdversarialLoss:
    """A GAN loss with the weight of its generator's term.

    Attributes:
        kind: of the loss.
        relativistic: compare with the mean of the other side (ESRGAN), or not (Real-ESRGAN).
        weight: factor of the generator's term; the discriminator's are never weighted. 0.1 in
            Real-ESRGAN (arXiv 2107.10833, section 4.1); lambda of ESRGAN's equation 3 is 0.005.
        mean: as for `relativistic_generator_term`.
    """

    kind: GanKind = "vanilla"
    relativistic: bool = False
    weight: float = 0.1
    mean: Mean = torch.mean

    def generator(self, judge: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor) -> Tensor:
        """Return the generator's weighted term, a scalar.

        Args:
            judge: the discriminator.
            fake: the generator's images (N, C, H, W), with their gradient.
            real: the true ones, which only a relativistic loss looks at.
        """
        if not self.relativistic:
            return self.weight * generator_term(judge(fake), self.kind)
        with torch.no_grad():
            truth = judge(real)
        return self.weight * relativistic_generator_term(truth, judge(fake), self.kind, self.mean)

    def discriminator(
        self, judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> DiscriminatorTerms:
        """Return the discriminator's terms.

        Args:
            judge: the discriminator.
            real: true images (N, C, H, W).
            fake: the generator's; their gradient is cut here.
        """
        truth, invention = judge(real), judge(fake.detach())
        if not self.relativistic:
            return discriminator_terms(truth, invention, self.kind)
        return relativistic_discriminator_terms(truth, invention, self.kind, self.mean)
