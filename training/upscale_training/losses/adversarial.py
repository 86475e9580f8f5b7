"""GAN losses: the generator's term and the discriminator's, as separate functions.

Predictions of a discriminator are logits of any shape, higher for more real. Its parameters must
not collect gradients while the generator's term is computed (use `requires_grad_(False)`, not
`no_grad`: the gradient passes through the discriminator), and the fakes that it is trained on are
detached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.losses.precision import widened

GanKind = Literal["vanilla", "lsgan", "wgan", "wgan-softplus", "hinge"]
"""Goodfellow et al. (arXiv 1406.2661, non-saturating), Mao et al. (arXiv 1611.04076), Arjovsky et
al. (arXiv 1701.07875; needs a gradient penalty), StyleGAN2's
logistic loss (arXiv 1912.04958), and Lim and Ye (arXiv 1705.02894)."""

Mean = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DiscriminatorTerms:
    """The unweighted terms that a discriminator minimises.

    Attributes:
        real: Scalar for the real images.
        fake: Scalar for the generator's images.
        penalty: Weighted gradient penalty, or None.
        means: Mean predictions for the real images and for the generator's, to watch.

    Example:
        >>> import torch
        >>> DiscriminatorTerms(real=torch.tensor(1.0), fake=torch.tensor(2.0)).total
        tensor(3.)
    """

    real: Tensor
    fake: Tensor
    penalty: Tensor | None = None
    means: tuple[Tensor, Tensor] | None = None

    @property
    def total(self) -> Tensor:
        """Sum of all terms."""
        total = self.real + self.fake
        return total if self.penalty is None else total + self.penalty


def generator_term(fake: Tensor, kind: GanKind = "vanilla") -> Tensor:
    """Return the term that the generator minimises, a scalar.

    This is the GAN loss of Real-ESRGAN (arXiv 2107.10833, section 4.1): -log D(G(x)) for `vanilla`.

    Args:
        fake: Predictions for the generator's images, with gradient.
        kind: Kind of loss.

    Example:
        >>> import torch
        >>> generator_term(torch.zeros(1))
        tensor(0.6931)
    """
    if kind == "hinge":
        return -widened(fake).mean()
    return _towards(fake, True, kind)


def discriminator_terms(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla"
) -> DiscriminatorTerms:
    """Return the terms that the discriminator minimises.

    Args:
        real: Predictions for real images.
        fake: Predictions for the detached images of the generator.
        kind: Kind of loss.

    Example:
        >>> import torch
        >>> discriminator_terms(torch.zeros(1), torch.zeros(1)).total
        tensor(1.3863)
    """
    return DiscriminatorTerms(_towards(real, True, kind), _towards(fake, False, kind))


def relativistic_generator_term(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla", mean: Mean = torch.mean
) -> Tensor:
    """Return the generator's term against a relativistic average discriminator.

    ESRGAN (arXiv 1809.00219), equation 2, halved as in the official code. For the other kinds see
    Jolicoeur-Martineau (arXiv 1807.00734): the discriminator's loss with swapped labels, which are
    1 and -1 for `lsgan` (basicsr keeps 1 and 0).

    Args:
        real: Predictions for the real images.
        fake: Predictions for the generator's images, with gradient.
        kind: Kind of loss.
        mean: Function that returns the mean over the batch as a scalar; with several processes,
            over the batches of all of them.

    Example:
        >>> import torch
        >>> relativistic_generator_term(torch.zeros(2), torch.zeros(2))
        tensor(0.6931)
    """
    real, fake = widened(real), widened(fake)
    less_real = _towards(real - mean(fake), False, kind, least=-1)
    more_real = _towards(fake - mean(real), True, kind, least=-1)
    return (less_real + more_real) / 2


def relativistic_discriminator_terms(
    real: Tensor, fake: Tensor, kind: GanKind = "vanilla", mean: Mean = torch.mean
) -> DiscriminatorTerms:
    """Return the terms that a relativistic average discriminator minimises.

    ESRGAN (arXiv 1809.00219), equation 1, halved as in the official code. The gradient also passes
    through the means, as in the equation. Basicsr stops it there; for that, pass a `mean` that
    detaches.

    Args:
        real: Predictions for the real images.
        fake: Predictions for the detached images of the generator.
        kind: Kind of loss.
        mean: Function that returns the mean over the batch; see `relativistic_generator_term`.

    Example:
        >>> import torch
        >>> relativistic_discriminator_terms(torch.ones(2), torch.zeros(2), "hinge").total
        tensor(0.)
    """
    real, fake = widened(real), widened(fake)
    more_real = _towards(real - mean(fake), True, kind, least=-1)
    less_real = _towards(fake - mean(real), False, kind, least=-1)
    return DiscriminatorTerms(more_real / 2, less_real / 2)


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
) -> Tensor:
    """Return the mean of (norm of the gradient - 1)^2 between real and generated images.

    WGAN-GP (arXiv 1704.00028), equation 3, for the mean prediction of each image.

    Args:
        discriminator: The discriminator network.
        real: Real images (N, C, H, W).
        fake: Images of the generator (N, C, H, W), detached.

    Example:
        >>> import torch
        >>> images = torch.zeros(2, 1, 3, 3)
        >>> gradient_penalty(lambda x: 2 * x.flatten(1).sum(1, True) / 3, images, images)
        tensor(1.)
    """
    share = torch.rand((len(real), 1, 1, 1), device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    predictions = widened(discriminator(between)).flatten(1).mean(1)
    (slope,) = torch.autograd.grad(predictions.sum(), between, create_graph=True)
    return (widened(slope).flatten(1).norm(dim=1) - 1).square().mean()


def _towards(predictions: Tensor, real: bool, kind: GanKind, least: float = 0) -> Tensor:
    """Return a loss that falls as predictions become real, or fake.

    `least` is the label of fakes for lsgan: differences of predictions are centred on 0, so their
    labels are too.
    """
    predictions = widened(predictions)
    signed = predictions if real else -predictions
    if kind == "lsgan":
        return (predictions - (1 if real else least)).square().mean()
    if kind == "wgan":
        return -signed.mean()
    if kind == "hinge":
        return F.relu(1 - signed).mean()
    return F.softplus(-signed).mean()  # equal to the binary cross-entropy of a logit


@dataclass(frozen=True, slots=True)
class AdversarialLoss:
    """A GAN loss with the weight of its generator's term.

    Attributes:
        kind: Kind of loss.
        relativistic: Whether to compare with the mean of the other side (ESRGAN: yes,
            Real-ESRGAN: no).
        weight: Factor of the generator's term; the discriminator's terms are not weighted. 0.1 in
            Real-ESRGAN (arXiv 2107.10833, section 4.1); lambda of ESRGAN's equation 3 is 0.005.
        mean: Function that returns the mean over the batch; see `relativistic_generator_term`.
        penalty: Factor of the gradient penalty; 0 for none.

    Example:
        >>> import torch
        >>> loss = AdversarialLoss("wgan", weight=0.5)
        >>> images = torch.ones(1, 3, 4, 4)
        >>> loss.generator(torch.mean, fake=images, real=images)
        tensor(-0.5000)
    """

    kind: GanKind = "vanilla"
    relativistic: bool = False
    weight: float = 0.1
    mean: Mean = torch.mean
    penalty: float = 0.0

    def generator(
        self, discriminator: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor
    ) -> Tensor:
        """Return the generator's weighted term, a scalar.

        Args:
            discriminator: The discriminator network.
            fake: Images of the generator (N, C, H, W), with gradient.
            real: Real images (N, C, H, W), used only by a relativistic loss.
        """
        if not self.relativistic:
            return self.weight * generator_term(discriminator(fake), self.kind)
        with torch.no_grad():
            real_logits = discriminator(real)
        term = relativistic_generator_term(real_logits, discriminator(fake), self.kind, self.mean)
        return self.weight * term

    def discriminator(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> DiscriminatorTerms:
        """Return the discriminator's terms.

        Args:
            discriminator: The discriminator network.
            real: Real images (N, C, H, W).
            fake: Images of the generator (N, C, H, W); they are detached here.
        """
        real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
        if self.relativistic:
            terms = relativistic_discriminator_terms(real_logits, fake_logits, self.kind, self.mean)
        else:
            terms = discriminator_terms(real_logits, fake_logits, self.kind)
        penalty = None
        if self.penalty:
            penalty = self.penalty * gradient_penalty(discriminator, real, fake.detach())
        means = widened(real_logits.detach()).mean(), widened(fake_logits.detach()).mean()
        return replace(terms, penalty=penalty, means=means)
