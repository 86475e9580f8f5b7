"""What a recipe says, as typed values. The defaults are those of Real-ESRGAN.

"The paper" is Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data" (arXiv 2107.10833); sections without another name are its. Where it is silent, the
default is that of its official option files.

A message of a `UsageError` that is raised here begins with the key that is wrong, seen from the
object that is made, as in `data.patch: ...`: `read_recipe` finds its line by that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upscale.errors import UsageError
from upscale.models import RRDBSpec, SRVGGSpec
from upscale_training.degradation import DegradationSettings, classical, generic, real_esrgan
from upscale_training.degradation.operations import Mode
from upscale_training.degradation.steps import Step
from upscale_training.losses import REAL_ESRGAN_LAYERS, Distance, GanKind, PixelKind
from upscale_training.losses.pixels import CHARBONNIER_EPSILON

Scale = Literal[1, 2, 4]

ChainName = Literal["real-esrgan", "classical", "generic", "none"]

Chain = ChainName | tuple[Step, ...]
"""A chain of degradations by its name, or its steps."""

Metric = Literal[
    "psnr",
    "psnr-y",
    "ssim",
    "ssim-y",
    "lpips",
    "lpips-vgg",
    "dists",
    "st-lpips",
    "niqe",
    "brisque",
    "piqe",
]
"""Those of `upscale.metrics.registry`."""

Checkpoint = str | Path
"""A model's name, as `upscale -n` takes it, or a file."""

_SMALLEST_PATCH = {"unet": 8, "patch": 24}
_VGG_PATCHES = (128, 256)


@dataclass(frozen=True, slots=True)
class RRDBNetSettings:
    """The network of ESRGAN and Real-ESRGAN (section 3.4, figure 4).

    Attributes:
        architecture: says that it is this one.
        scale: output pixels per image pixel and axis.
        features: channels between the blocks, at least 1.
        blocks: residual-in-residual dense blocks, at least 1.
        growth: channels that each convolution of a dense block adds, at least 1.
    """

    architecture: Literal["rrdbnet"] = "rrdbnet"
    scale: Scale = 4
    features: int = 64
    blocks: int = 23
    growth: int = 32

    def __post_init__(self) -> None:
        for name in ("features", "blocks", "growth"):
            _check(name, getattr(self, name), least=1)

    @property
    def spec(self) -> RRDBSpec:
        """What `upscale.models.build` takes."""
        return RRDBSpec(
            features=self.features,
            blocks=self.blocks,
            growth=self.growth,
            unshuffle=self.patch_multiple // self.scale,
        )

    @property
    def patch_multiple(self) -> int:
        """What the side of a upscale_training patch must divide by."""
        return 4


@dataclass(frozen=True, slots=True)
class SRVGGSettings:
    """The compact network of Real-ESRGAN's releases (v0.2.5; not in the paper).

    Attributes:
        architecture: says that it is this one.
        scale: output pixels per image pixel and axis.
        features: channels between the convolutions, at least 1.
        convolutions: those between the first and the last, at least 1: 32 in realesr-general-x4v3,
            16 in realesr-animevideov3.
    """

    architecture: Literal["srvgg"] = "srvgg"
    scale: Scale = 4
    features: int = 64
    convolutions: int = 32

    def __post_init__(self) -> None:
        for name in ("features", "convolutions"):
            _check(name, getattr(self, name), least=1)

    @property
    def spec(self) -> SRVGGSpec:
        """What `upscale.models.build` takes."""
        return SRVGGSpec(scale=self.scale, features=self.features, convolutions=self.convolutions)

    @property
    def patch_multiple(self) -> int:
        """What the side of a upscale_training patch must divide by."""
        return self.scale


NetworkSettings = RRDBNetSettings | SRVGGSettings

NETWORKS: dict[str, type[NetworkSettings]] = {"rrdbnet": RRDBNetSettings, "srvgg": SRVGGSettings}
"""Networks by their architecture."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where upscale_training images come from.

    Attributes:
        path: of the good images: a folder, or an LMDB of BasicSR's.
        low: of the bad images with the same names, smaller by the network's scale; none: they
            are made by the degradation.
        index: a file that names the images to use: ours, or one of BasicSR's `meta_info`.
        weight: how often each of its images comes in an epoch, above 0; 0.5 is every other one.
    """

    path: Path
    low: Path | None = None
    index: Path | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check("weight", self.weight, above=0)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What patches are cut from, and how.

    Attributes:
        sources: one at least; either all of them are pairs, or none is.
        patch: side of the good patches in pixels (256 in section 4.1).
        margin: pixels around a patch that are degraded with it and cut off afterwards, on two
            opposite sides together twice as many (the official code degrades 400 for 256), so
            that blocks of JPEG lie anywhere and edges stay out. Pairs have none.
        flips: mirror half of them.
        rotations: turn them by 0, 90, 180 or 270 degrees, each equally often (official files: no;
            ESRGAN: yes).
        workers: processes that read for each upscale_training process; 0: it reads by itself.
    """

    sources: tuple[Source, ...]
    patch: int = 256
    margin: int = 72
    flips: bool = True
    rotations: bool = False
    workers: int = 5

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("sources: name one at least")
        if len({source.low is None for source in self.sources}) > 1:
            raise UsageError("sources: either all have low images, or none has")
        _check("patch", self.patch, least=1)
        _check("margin", self.margin, least=0)
        _check("workers", self.workers, least=0)

    @property
    def paired(self) -> bool:
        """Whether the bad images are there, too."""
        return self.sources[0].low is not None

    @property
    def side(self) -> int:
        """Side of what is cut from images: a patch, with the margin that it is degraded in."""
        return self.patch if self.paired else self.patch + 2 * self.margin


@dataclass(frozen=True, slots=True)
class DegradationRecipe:
    """How good images become bad ones (section 3).

    Attributes:
        chain: `real-esrgan` (second order, section 3.2), `classical` (bicubic alone), `generic`
            (NTIRE 2020, arXiv 2005.01996), `none` (for pairs), or a list of steps.
        mode: `corrected`, or `official` with basicsr's faults.
        sharpen: sharpen the good images before they are degraded (the official code does).
        pool: pairs that are held back so that batches mix many draws (section 4.1); 0 for none.
            Pairs that were not degraded here are not pooled.
    """

    chain: Chain = "real-esrgan"
    mode: Mode = "corrected"
    sharpen: bool = True
    pool: int = 180

    def __post_init__(self) -> None:
        _check("pool", self.pool, least=0)

    def settings(self, scale: int) -> DegradationSettings | None:
        """What degradations are drawn from; None where there is no degradation.

        Raises:
            UsageError: these steps do not give images of the right size.
        """
        return chain_settings(self.chain, scale, self.mode)


def chain_settings(chain: Chain, scale: int, mode: Mode) -> DegradationSettings | None:
    """Return what degradations of a chain are drawn from; None for the chain `none`.

    Raises:
        UsageError: its steps do not give images of the right size.
    """
    if chain == "none":
        return None
    if not isinstance(chain, str):
        return DegradationSettings(chain, scale, mode)
    make = {"real-esrgan": real_esrgan, "classical": classical, "generic": generic}[chain]
    return DegradationSettings(make(scale).steps, scale, mode)


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """An optimiser (section 4.1: Adam).

    Attributes:
        learning_rate: above 0; 2e-4 for Real-ESRNet, 1e-4 for Real-ESRGAN.
        kind: `adam` or `adamw`.
        betas: decay of the means of gradients and of their squares, in [0, 1).
        weight_decay: at least 0.
    """

    learning_rate: float
    kind: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, above=0)
        for beta in self.betas:
            _check("betas", beta, least=0, below=1)
        _check("weight_decay", self.weight_decay, least=0)


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """How learning rates change within a stage, alike for all its optimisers.

    Attributes:
        warmup: iterations in which they rise from 0, evenly.
        milestones: iterations of the stage at which they are multiplied by `gamma`; rising.
        gamma: in (0, 1].
    """

    warmup: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5

    def __post_init__(self) -> None:
        _check("warmup", self.warmup, least=0)
        _check("gamma", self.gamma, above=0, most=1)
        if any(one < 1 for one in self.milestones) or list(self.milestones) != sorted(
            set(self.milestones)
        ):
            raise UsageError(f"milestones: rise from 1 on, not {list(self.milestones)}")


@dataclass(frozen=True, slots=True)
class PixelSettings:
    """A loss of pixels (section 4.1: L1).

    Attributes:
        kind: `l1` or `charbonnier`.
        weight: above 0.
        epsilon: half-width of Charbonnier's smooth part, in units of an image in [0, 1].
        sharpen: compare with the sharpened image (section 4.1).
    """

    kind: PixelKind = "l1"
    weight: float = 1.0
    epsilon: float = CHARBONNIER_EPSILON
    sharpen: bool = True

    def __post_init__(self) -> None:
        _check("weight", self.weight, above=0)
        _check("epsilon", self.epsilon, above=0)


@dataclass(frozen=True, slots=True)
class PerceptualSettings:
    """A loss of what a classification network sees (section 4.1).

    Attributes:
        backbone: that network's file; nothing is downloaded. The paper's is vgg19-dcbb9e9d.pth.
        layers: to compare, with their weights; `conv` is before the activation, `relu` after it.
        weight: of the features' difference, at least 0.
        style: weight of the difference of their Gram matrices, at least 0.
        distance: between two features.
        relative: divide by the size of the true image's features, for backbones whose features
            are not of VGG19's size.
        normalise: give the backbone images as its own upscale_training did.
        sharpen: compare with the sharpened image (section 4.1).
    """

    backbone: Path
    layers: Mapping[str, float] = field(default_factory=lambda: dict(REAL_ESRGAN_LAYERS))
    weight: float = 1.0
    style: float = 0.0
    distance: Distance = "l1"
    relative: bool = False
    normalise: bool = True
    sharpen: bool = True

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("layers: name one at least, as conv5_4: 1")
        for name, weight in self.layers.items():
            _check(f"layers.{name}", weight, above=0)
        _check("weight", self.weight, least=0)
        _check("style", self.style, least=0)
        if self.weight == self.style == 0:
            raise UsageError("weight: this and style are 0; leave perceptual out instead")


@dataclass(frozen=True, slots=True)
class DiscriminatorSettings:
    """The network that judges.

    Attributes:
        kind: `unet` with spectral normalisation (section 3.4), `vgg` (ESRGAN; patches of 128 or
            256), or `patch` (pix2pix).
        features: channels after the first convolution, at least 1.
        start: a file of weights to begin with.
    """

    kind: Literal["unet", "vgg", "patch"] = "unet"
    features: int = 64
    start: Path | None = None

    def __post_init__(self) -> None:
        _check("features", self.features, least=1)


@dataclass(frozen=True, slots=True)
class GanSettings:
    """The adversarial loss (section 4.1).

    Attributes:
        kind: of the loss.
        relativistic: compare real and fake with the mean of the other (ESRGAN, section 3.2).
        weight: of the generator's term, above 0; the discriminator's terms have none.
        sharpen: show the discriminator sharpened images as real (section 4.1: no).
        discriminator: the network that judges.
        optimiser: of the discriminator; none: as the generator's.
    """

    kind: GanKind = "vanilla"
    relativistic: bool = False
    weight: float = 0.1
    sharpen: bool = False
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    optimiser: OptimiserSettings | None = None

    def __post_init__(self) -> None:
        _check("weight", self.weight, above=0)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a upscale_training: Real-ESRNet or Real-ESRGAN (section 4.1).

    The first stage begins with `start` of the recipe, each other one with the averaged weights of
    the one before.

    Attributes:
        name: of the exported file, among others.
        iterations: steps of the optimisers; 1,000,000 and 400,000 in section 4.1.
        optimiser: of the generator.
        batch: patches of one process at a time (section 4.1: 48 in all, which is 4 x 12).
        accumulate: batches of each process that make one step.
        ema: decay of the averaged weights, in [0, 1); 0 for no average.
        schedule: of all learning rates.
        pixel: the loss of pixels, or none.
        perceptual: the loss of features, or none.
        gan: the adversarial loss, or none.
    """

    name: str
    iterations: int
    optimiser: OptimiserSettings
    batch: int = 12
    accumulate: int = 1
    ema: float = 0.999
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    pixel: PixelSettings | None = field(default_factory=PixelSettings)
    perceptual: PerceptualSettings | None = None
    gan: GanSettings | None = None

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "accumulate"):
            _check(name, getattr(self, name), least=1)
        _check("ema", self.ema, least=0, below=1)
        _check_name(self.name)
        if not (self.pixel or self.perceptual or self.gan):
            raise UsageError("pixel: a stage needs a loss: pixel, perceptual or gan")


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Images that are held out.

    Attributes:
        high: folder of the good images.
        name: in logs.
        low: folder of the bad ones with the same names; none: they are made, always the same.
        chain: what makes them; none: that of the recipe.
        seed: of what makes them.
    """

    high: Path
    name: str = "validation"
    low: Path | None = None
    chain: Chain | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check("seed", self.seed, least=0)
        if self.low is not None and self.chain is not None:
            raise UsageError("chain: makes the bad images, and low has them already; give one")
        if self.chain == "none" and self.low is None:
            raise UsageError("chain: none makes no bad images; name their folder as low")


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """How a upscale_training is judged while it runs.

    Attributes:
        sets: of held-out images, one at least.
        every: iterations from one validation to the next.
        metrics: what is measured of each image; those whose files are not there are left out.
        border: pixels of the result that no metric looks at, on each side; none: the scale.
        images: of each set, that are shown.
    """

    sets: tuple[ValidationSet, ...]
    every: int = 5000
    metrics: tuple[Metric, ...] = ("psnr", "ssim")
    border: int | None = None
    images: int = 4

    def __post_init__(self) -> None:
        if not self.sets:
            raise UsageError("sets: name one at least")
        _check_distinct("sets", [one.name for one in self.sets])
        if not self.metrics:
            raise UsageError("metrics: name one at least, as psnr")
        _check_distinct("metrics", self.metrics)
        _check("every", self.every, least=1)
        _check("pictures", self.images, least=0)
        if self.border is not None:
            _check("border", self.border, least=0)


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """What is written down while a upscale_training runs, beside its log of JSON lines.

    Attributes:
        every: iterations that one line speaks of.
        tensorboard: write curves and images for TensorBoard, too.
    """

    every: int = 100
    tensorboard: bool = True

    def __post_init__(self) -> None:
        _check("every", self.every, least=1)


@dataclass(frozen=True, slots=True)
class SavingSettings:
    """What is kept to resume from, and exported.

    Attributes:
        every: iterations from one saved state to the next.
        keep_last: newest states that are kept, at least 1.
        keep_best: states with the best validations that are kept.
        best_metric: what is best; the mean over the validation's sets.
        export: precision of the exported file; states are kept in fp32.
    """

    every: int = 5000
    keep_last: int = 2
    keep_best: int = 1
    best_metric: Metric = "psnr"
    export: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        _check("every", self.every, least=1)
        _check("keep_last", self.keep_last, least=1)
        _check("keep_best", self.keep_best, least=0)


@dataclass(frozen=True, slots=True)
class ComputingSettings:
    """How it is computed.

    Attributes:
        precision: of autocast.
        channels_last: memory layout of the networks.
        compile: use `torch.compile`.
        checkpoint_activations: compute activations again in the backward pass: slower, for less
            memory.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    checkpoint_activations: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole upscale_training.

    Attributes:
        name: of the upscale_training.
        network: what is trained.
        data: what it is trained on.
        stages: one after the other, at least one.
        degradation: what makes bad images.
        seed: of everything random, at least 0.
        start: weights to begin with: a model's name, or a file (with its suffix); x2 and x1
            networks can begin with those of x4. `upscale.checkpoints.resolve` takes either.
        validation: how it is judged, or none.
        logging: what is written down.
        saving: what is kept.
        computing: precision and speed.
        licence: of the trained weights, for the exported file.
        notes: for the exported file.
    """

    name: str
    network: NetworkSettings
    data: DataSettings
    stages: tuple[Stage, ...]
    degradation: DegradationRecipe = field(default_factory=DegradationRecipe)
    seed: int = 0
    start: Checkpoint | None = None
    validation: ValidationSettings | None = None
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    saving: SavingSettings = field(default_factory=SavingSettings)
    computing: ComputingSettings = field(default_factory=ComputingSettings)
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check("seed", self.seed, least=0)
        if not self.stages:
            raise UsageError("stages: name one at least")
        _check_distinct("stages", [stage.name for stage in self.stages])
        self._check_patch()
        self._check_degradation()
        self._check_validation()
        for place, stage in enumerate(self.stages):
            self._check_stage(f"stages.{place}", stage)

    def _check_patch(self) -> None:
        multiple = self.network.patch_multiple
        if self.data.patch % multiple:
            raise UsageError(
                f"data.patch: {self.data.patch} does not divide by {multiple}, which this network "
                "needs"
            )
        if self.data.side % multiple:
            raise UsageError(
                f"data.margin: twice {self.data.margin} does not divide by {multiple}, which this "
                "network needs"
            )

    def _check_degradation(self) -> None:
        if self.data.paired and self.degradation.chain != "none":
            raise UsageError(
                "degradation.chain: the sources have low images already; write none, or leave "
                "low out"
            )
        if not self.data.paired and self.degradation.chain == "none":
            raise UsageError(
                "degradation.chain: none makes no bad images, and the sources have no low ones"
            )
        try:
            self.degradation.settings(self.network.scale)
        except UsageError as error:
            raise UsageError(f"degradation.chain: {error}") from error

    def _check_validation(self) -> None:
        if self.validation is None:
            return
        for place, one in enumerate(self.validation.sets):
            if self.degradation.chain == "none" and one.low is None and one.chain is None:
                raise UsageError(
                    f"validation.sets.{place}: the recipe has no degradation; give this set low "
                    "images or a chain"
                )
        if self.saving.keep_best and self.saving.best_metric not in self.validation.metrics:
            raise UsageError(
                f"saving.best_metric: {self.saving.best_metric} is not among the validation's "
                f"metrics ({', '.join(self.validation.metrics)})"
            )

    def _check_stage(self, key: str, stage: Stage) -> None:
        pool = self.degradation.pool
        if self.degradation.chain != "none" and 0 < pool < stage.batch:
            raise UsageError(
                f"degradation.pool: {pool} pairs are fewer than a batch of {stage.name}, "
                f"{stage.batch}; make it larger, or 0 for none"
            )
        if stage.gan is None:
            return
        kind, patch = stage.gan.discriminator.kind, self.data.patch
        if kind == "vgg" and patch not in _VGG_PATCHES:
            raise UsageError(
                f"{key}.gan.discriminator.kind: a vgg discriminator takes patches of 128 or 256, "
                f"and data.patch is {patch}"
            )
        if patch < _SMALLEST_PATCH.get(kind, 0):
            raise UsageError(
                f"{key}.gan.discriminator.kind: a {kind} discriminator takes patches of "
                f"{_SMALLEST_PATCH[kind]} at least, and data.patch is {patch}"
            )


def _check(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    if least <= value <= most and above < value < below:
        return
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    words = " and ".join(
        f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)
    )
    raise UsageError(f"{name}: must be {words}, not {value}")


def _check_name(name: str) -> None:
    if not name.strip() or set(name) & set("/\\\n\r\0") or name.startswith("."):
        raise UsageError(f"name: becomes a file's name, which {name!r} cannot")


def _check_distinct(key: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{key}: {name} is there twice")
