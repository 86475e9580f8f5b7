"""The contents of a recipe as validated settings. The defaults are those of Real-ESRGAN.

"The paper" is Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data" (arXiv 2107.10833); sections without another name refer to it. Where the paper gives
no value, the default is that of its official option files.

Constructing settings with wrong values raises `pydantic.ValidationError`; `read_recipe` reports the
same errors with file, line and key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

# Registers the steps that read files, and those of codecs.
import upscale_training.pools  # noqa: F401  # pyright: ignore[reportUnusedImport]
from upscale.errors import UsageError
from upscale.models import (
    RCANSpec,
    RealCUGANSpec,
    RealPLKSRSpec,
    RRDBSpec,
    SPANSpec,
    SRVGGSpec,
)
from upscale_training.degradation import DegradationSettings, classical, generic, real_esrgan
from upscale_training.degradation.operations import Mode
from upscale_training.degradation.steps import Step
from upscale_training.losses import REAL_ESRGAN_LAYERS, Distance, GanKind
from upscale_training.losses.pixels import CHARBONNIER_EPSILON, PIXEL_LOSSES
from upscale_training.networks.spandrel_network import SpandrelSpec
from upscale_training.path_settings import FilePath, Location, check_local, check_not_empty
from upscale_training.schema import ClassBy, Decay, OneOf, rule_error, settings

ChainName = Literal["real-esrgan", "classical", "generic", "none"]

Chain = Annotated[
    Annotated[ChainName, Tag("name")] | Annotated[tuple[Step, ...], Tag("steps")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "steps"),
]
"""The name of a degradation chain, or its steps."""


def _check_no_bool(value: object) -> object:
    if isinstance(value, bool):  # a literal 1 accepts true
        raise rule_error(f"must be a number, not {str(value).lower()}")
    return value


def _path_or_name(value: str | Path) -> str | Path:
    """Turn text into a path, unless it has neither a folder nor a suffix."""
    check_not_empty(value)
    return Path(value) if isinstance(value, str) and any(c in value for c in "/\\.~") else value


def _check_file_name(name: str) -> str:
    if not name.strip() or set(name) & set("/\\\n\r\0") or name.startswith("."):
        raise rule_error(f"must be usable as a file name, not {name!r}")
    return name


def _metric_names() -> Collection[str]:
    from upscale.metrics.registry import metrics

    return metrics()


def _check_distinct(names: Sequence[str], key: str = "") -> None:
    for name in names:
        if names.count(name) > 1:
            raise rule_error(f"{name} occurs twice", key)


MAX_LAYERS = 1000
MAX_CHANNELS = 2048
MAX_COUNT = 16_384
MAX_KERNEL = 63
MAX_STRENGTH = 4
Probability = Annotated[float, Field(ge=0, le=1)]
MAX_WORKERS = 1024

Layers = Annotated[int, Field(gt=0, le=MAX_LAYERS)]
Channels = Annotated[int, Field(gt=0, le=MAX_CHANNELS)]
Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Scale = Annotated[Literal[1, 2, 4, 8], BeforeValidator(_check_no_bool)]
"""Scales of networks that end in doublings."""
AnyScale = Annotated[Literal[1, 2, 3, 4, 8], BeforeValidator(_check_no_bool)]
"""Scales of networks that end in pixel shuffles."""
Name = Annotated[str, AfterValidator(_check_file_name)]
Metric = Annotated[str, OneOf(_metric_names)]
Checkpoint = Annotated[str | Path, AfterValidator(_path_or_name)]
"""A file, or the name of a network as `upscale -n` takes it."""

_SMALLEST_PATCH = {"unet": 8, "patch": 24}
_VGG_PATCHES = (128, 256)


@settings
class RRDBNetSettings:
    """The network of ESRGAN and Real-ESRGAN (section 3.4, figure 4).

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels between the blocks.
        blocks: Number of residual-in-residual dense blocks.
        growth: Channels that each convolution of a dense block adds.

    Example:
        >>> RRDBNetSettings(scale=2, blocks=6).spec.unshuffle
        2
    """

    architecture: Literal["rrdbnet"] = "rrdbnet"
    scale: Scale = 4
    features: Channels = 64
    blocks: Layers = 23
    growth: Channels = 32

    @property
    def spec(self) -> RRDBSpec:
        """Specification for `upscale.models.build`."""
        return RRDBSpec(
            features=self.features,
            blocks=self.blocks,
            growth=self.growth,
            unshuffle=max(4 // self.scale, 1),
            upsamples=max(2, self.scale.bit_length() - 1),
        )

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return max(4, self.scale)


@settings
class SRVGGSettings:
    """The compact network of Real-ESRGAN's releases (v0.2.5; not in the paper).

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels between the convolutions.
        convolutions: Number of convolutions between the first and the last: 32 in
            realesr-general-x4v3, 16 in realesr-animevideov3.

    Example:
        >>> SRVGGSettings(convolutions=16).spec.scale
        4
    """

    architecture: Literal["srvgg"] = "srvgg"
    scale: AnyScale = 4
    features: Channels = 64
    convolutions: Layers = 32

    @property
    def spec(self) -> SRVGGSpec:
        """Specification for `upscale.models.build`."""
        return SRVGGSpec(scale=self.scale, features=self.features, convolutions=self.convolutions)

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


@settings
class SPANSettings:
    """SPAN (arXiv 2311.12770), without the parallel convolutions of its official training.

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels between the convolutions.
        normalised: Whether the network subtracts the mean of DIV2K and multiplies by 255 first.

    Example:
        >>> SPANSettings(features=32).spec.features
        32
    """

    architecture: Literal["span"] = "span"
    scale: AnyScale = 4
    features: Channels = 48
    normalised: bool = False

    @property
    def spec(self) -> SPANSpec:
        """Specification for `upscale.models.build`."""
        return SPANSpec(scale=self.scale, features=self.features, normalised=self.normalised)

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


@settings
class RCANSettings:
    """RCAN, with channel attention (arXiv 1807.02758, section 3).

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels between the blocks.
        groups: Number of residual groups.
        blocks: Number of blocks in a group.
        reduction: Factor by which channel attention reduces the number of channels, at most
            `features`.

    Example:
        >>> RCANSettings(scale=3, groups=2).spec.groups
        2
    """

    architecture: Literal["rcan"] = "rcan"
    scale: AnyScale = 4
    features: Channels = 64
    groups: Layers = 10
    blocks: Layers = 20
    reduction: Channels = 16

    @model_validator(mode="after")
    def _check_reduction(self) -> RCANSettings:
        if self.reduction > self.features:
            raise rule_error(f"must be at most {self.features}, the features", "reduction")
        return self

    @property
    def spec(self) -> RCANSpec:
        """Specification for `upscale.models.build`."""
        return RCANSpec(
            self.scale,
            features=self.features,
            groups=self.groups,
            blocks=self.blocks,
            reduction=self.reduction,
        )

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


@settings
class RealCUGANSettings:
    """Real-CUGAN, two U-Nets with squeeze-and-excitation.

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels at the full size of each U-Net, a multiple of 8.
        pro: Whether the values of the image are compressed to 0.15..0.85.

    Example:
        >>> RealCUGANSettings(scale=4).spec.features
        64
    """

    architecture: Literal["realcugan"] = "realcugan"
    scale: Literal[2, 4] = 2
    features: Channels = 64
    pro: bool = False

    @model_validator(mode="after")
    def _check_features(self) -> RealCUGANSettings:
        if self.features % 8:
            raise rule_error("must be a multiple of 8", "features")
        return self

    @property
    def spec(self) -> RealCUGANSpec:
        """Specification for `upscale.models.build`."""
        return RealCUGANSpec(self.scale, features=self.features, pro=self.pro)

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


@settings
class RealPLKSRSettings:
    """RealPLKSR with layer normalisation (arXiv 2404.11848, and neosr's hyper-parameters).

    Attributes:
        architecture: Selects this architecture.
        scale: Output pixels per input pixel and axis.
        features: Channels between the blocks.
        blocks: Number of blocks.
        kernel: Side of the large kernels, an odd number.
        partial: Channels that the large kernels read, at most `features`.
        attention: Whether a block multiplies its channels by a gate.

    Example:
        >>> RealPLKSRSettings(scale=2, blocks=12).spec.blocks
        12
    """

    architecture: Literal["realplksr"] = "realplksr"
    scale: AnyScale = 4
    features: Channels = 64
    blocks: Layers = 28
    kernel: Annotated[int, Field(gt=0, le=MAX_KERNEL)] = 17
    partial: Channels = 16
    attention: bool = True

    @model_validator(mode="after")
    def _check_kernel(self) -> RealPLKSRSettings:
        if not self.kernel % 2:
            raise rule_error("must be odd", "kernel")
        if self.partial > self.features:
            raise rule_error(f"must be at most {self.features}, the features", "partial")
        return self

    @property
    def spec(self) -> RealPLKSRSpec:
        """Specification for `upscale.models.build`."""
        return RealPLKSRSpec(
            self.scale,
            features=self.features,
            blocks=self.blocks,
            kernel=self.kernel,
            partial=self.partial,
            attention=self.attention,
        )

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


@settings
class SpandrelSettings:
    """Any network of the package spandrel, trained as a plain module; its tiles are blended.

    Attributes:
        architecture: Selects a network of spandrel.
        kind: Name of its class there, for example `SwinIR`, `OmniSR` or `SAFMN`.
        scale: Output pixels per input pixel and axis.
        parameters: Arguments of the class by name, besides its scale.

    Example:
        >>> SpandrelSettings("OmniSR", parameters={"res_num": 2}).spec.describe()
        'OmniSR x4 of spandrel'
    """

    kind: str
    architecture: Literal["spandrel"] = "spandrel"
    scale: AnyScale = 4
    parameters: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])

    @property
    def spec(self) -> SpandrelSpec:
        """Specification of the network."""
        return SpandrelSpec(self.kind, self.scale, self.parameters)

    @property
    def patch_multiple(self) -> int:
        """Number that must divide the side of a training patch."""
        return self.scale


NetworkSettings = (
    RRDBNetSettings
    | SRVGGSettings
    | SPANSettings
    | RCANSettings
    | RealCUGANSettings
    | RealPLKSRSettings
    | SpandrelSettings
)

NETWORKS: dict[str, type[NetworkSettings]] = {
    "rrdbnet": RRDBNetSettings,
    "srvgg": SRVGGSettings,
    "span": SPANSettings,
    "rcan": RCANSettings,
    "realcugan": RealCUGANSettings,
    "realplksr": RealPLKSRSettings,
    "spandrel": SpandrelSettings,
}
"""Networks by `architecture`."""


@settings
class Source:
    """A source of training images.

    Attributes:
        path: Folder of the HR images, or an LMDB as written by BasicSR; null: shards contain them.
        low: Folder, LMDB or shards of the LR images with the same names, smaller by the network's
            scale; null: the degradation creates them.
        index: File that lists the images to use: an index of `upscale dataset`, or a `meta_info`
            file of BasicSR.
        weight: Number of times that each image occurs in an epoch, above 0; with 0.5, every other
            image occurs.
        shards: Instead of a path: tar files in WebDataset's layout, or a folder of them; a path, or
            an address of an object store such as `s3://bucket/train-{000..099}.tar`.

    Example:
        >>> Source(Path("photos")).weight
        1.0
    """

    path: FilePath | None = None
    low: Location | None = None
    index: FilePath | None = None
    weight: PositiveFloat = 1.0
    shards: Location | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Source:
        if self.path is None and self.shards is None:
            raise rule_error("lacks path: a folder or an LMDB; or shards")
        if self.path is not None and self.shards is not None:
            raise rule_error("write either path or shards, not both", "shards")
        if self.shards is not None and self.index is not None:
            raise rule_error("shards have no index; remove it", "index")
        if self.shards is None and isinstance(self.low, str):
            check_local(self.low)
        return self


@settings
class MixSettings:
    """Mixtures of the pairs of a batch, at most one for each batch (arXiv 2004.00448).

    Attributes:
        mixup: Probability that each pair is averaged with another one (arXiv 1710.09412).
        cutmix: Probability that a rectangle of each pair comes from another one (arXiv
            1905.04899).
        cutblur: Probability that a rectangle of each LR image is a reduced HR image, so that a
            network learns where to change nothing (arXiv 2004.00448).

    Example:
        >>> MixSettings(cutblur=0.2).mixup
        0.0
    """

    mixup: Probability = 0.0
    cutmix: Probability = 0.0
    cutblur: Probability = 0.0

    @model_validator(mode="after")
    def _check_sum(self) -> MixSettings:
        if self.mixup + self.cutmix + self.cutblur > 1:
            raise rule_error("the probabilities must not add up to more than 1", "mixup")
        return self


@settings
class DataSettings:
    """The training data, and how patches are cut from it.

    Attributes:
        sources: Sources, at least one. Those with LR images are not degraded, the others are; a
            batch contains both.
        patch: Side of the HR patches in pixels (256 in section 4.1).
        margin: Pixels around a patch that are degraded with it and cut off afterwards, twice as
            many per axis (the official code degrades 400 pixels for 256), so that JPEG blocks start
            anywhere and patches contain no image edges. Unused for pairs.
        flips: Whether to mirror half of the patches.
        rotations: Whether to rotate patches by 0, 90, 180 or 270 degrees, equally often (official
            files: no; ESRGAN: yes).
        workers: Number of processes that read images for each training process; with 0, the
            training process reads them itself.
        mix: Mixtures of the pairs of a batch.

    Example:
        >>> DataSettings((Source(Path("photos")),), patch=256, margin=72).side
        400
    """

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    patch: Count = 256
    margin: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 72
    flips: bool = True
    rotations: bool = False
    workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] = 5
    mix: MixSettings = field(default_factory=MixSettings)

    @property
    def paired(self) -> bool:
        """Whether all sources contain LR images, so that nothing is degraded."""
        return all(source.low is not None for source in self.sources)

    @property
    def side(self) -> int:
        """Side of the squares that are degraded: a patch with its margins."""
        return self.patch if self.paired else self.patch + 2 * self.margin


@settings
class DegradationRecipe:
    """The degradation that creates LR images from HR images (section 3).

    Attributes:
        chain: `real-esrgan` (second order, section 3.2), `classical` (bicubic only), `generic`
            (NTIRE 2020, arXiv 2005.01996), `none` (for pairs), or a list of steps.
        mode: `corrected`, or `official` with the faults of basicsr.
        sharpen: Whether to sharpen HR images before they are degraded (the official code does).
        pool: Number of pairs kept back to mix degradations in a batch (section 4.1); 0 for none.
            Pairs that were not degraded here are not pooled.
        strength: Factor of noise and of the losses of compression in `corrected`, above 0.

    Example:
        >>> DegradationRecipe("classical", sharpen=False).settings(scale=4).scale
        4
    """

    chain: Chain = "real-esrgan"
    mode: Mode = "corrected"
    sharpen: bool = True
    pool: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 180
    strength: Annotated[float, Field(gt=0, le=MAX_STRENGTH)] = 1.0

    @model_validator(mode="after")
    def _check_strength(self) -> DegradationRecipe:
        if self.mode == "official" and self.strength != 1:
            raise rule_error("must be 1 in the mode official; use corrected", "strength")
        return self

    def settings(self, scale: int) -> DegradationSettings | None:
        """Return the settings to sample degradations from; None for the chain `none`.

        Raises:
            UsageError: The steps do not give images of the right size.
        """
        if self.chain == "none":
            return None
        if not isinstance(self.chain, str):
            return DegradationSettings(self.chain, scale, self.mode, self.strength)
        make = {"real-esrgan": real_esrgan, "classical": classical, "generic": generic}[self.chain]
        return DegradationSettings(make(scale).steps, scale, self.mode, self.strength)


@settings
class OptimiserSettings:
    """An optimiser (section 4.1: Adam).

    Attributes:
        learning_rate: Learning rate; 2e-4 for Real-ESRNet, 1e-4 for Real-ESRGAN.
        kind: `adam`, `adamw`, `schedule-free` (AdamW without a schedule, arXiv 2405.15682) or
            `adan` (arXiv 2208.06677); the last two need the package pytorch-optimizer.
        betas: Decay of the running means of gradients and of their squares, in [0, 1). `adan` has
            three: of gradients, of their differences, and of squares; 0.98, 0.92 and 0.99 in its
            paper.
        weight_decay: Weight decay, at least 0.
        clip: Largest norm of all gradients together, to which larger ones are scaled down; 0 for no
            limit.

    Example:
        >>> OptimiserSettings(2e-4).betas
        (0.9, 0.99)
    """

    learning_rate: PositiveFloat
    kind: Literal["adam", "adamw", "schedule-free", "adan"] = "adam"
    betas: tuple[Decay, ...] = (0.9, 0.99)
    weight_decay: NonNegativeFloat = 0.0
    clip: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _check_betas(self) -> OptimiserSettings:
        needed, example = (3, "[0.98, 0.92, 0.99]") if self.kind == "adan" else (2, "[0.9, 0.99]")
        if len(self.betas) != needed:
            raise rule_error(f"must be {needed} numbers for {self.kind}, as {example}", "betas")
        if self.kind == "schedule-free" and self.betas[0] == 0:
            raise rule_error("must begin with a number above 0 for schedule-free", "betas")
        return self


@settings
class ScheduleSettings:
    """The schedule of all learning rates of a stage.

    Attributes:
        warmup: Number of iterations of linear warm-up from 0.
        kind: `steps`, which multiplies at milestones; `cosine`, which falls along half a cosine
            (arXiv 1608.03983); or `knee`, which stays and then falls linearly (arXiv 2003.03977).
        milestones: Iterations of the stage at which learning rates are multiplied by `gamma`, in
            rising order.
        gamma: Factor in (0, 1].
        periods: Iterations of each fall of `cosine`, after which learning rates start again; empty
            for one fall over the whole stage.
        minimum: Share of the learning rate at the end of a fall of `cosine` or `knee`.
        hold: Share of the iterations of a stage before the fall of `knee`.

    Example:
        >>> ScheduleSettings(milestones=(100, 200)).gamma
        0.5
    """

    warmup: NonNegativeInt = 0
    kind: Literal["steps", "cosine", "knee"] = "steps"
    milestones: tuple[PositiveInt, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    periods: tuple[PositiveInt, ...] = ()
    minimum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hold: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @field_validator("milestones")
    @classmethod
    def _check_milestones(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise rule_error(f"must rise, not {list(milestones)}")
        return milestones

    @model_validator(mode="after")
    def _check_kind(self) -> ScheduleSettings:
        if self.kind != "steps" and self.milestones:
            raise rule_error(
                f"belong to the kind steps, not to {self.kind}; remove them", "milestones"
            )
        if self.kind == "steps" and (self.periods or self.minimum):
            raise rule_error("periods and minimum belong to the kind cosine", "kind")
        if self.kind == "knee" and self.periods:
            raise rule_error("belong to the kind cosine, not to knee; remove them", "periods")
        return self


@settings
class PixelSettings:
    """The pixel loss (section 4.1: L1).

    Attributes:
        kind: Name of the loss.
        weight: Factor of the loss; 0 switches it off.
        epsilon: Half-width of the smooth part of `charbonnier`, in units of an image in [0, 1].
        sharpen: Whether to compare with the sharpened ground truth (section 4.1).

    Example:
        >>> PixelSettings("charbonnier").weight
        1.0
    """

    kind: Annotated[str, OneOf(PIXEL_LOSSES.keys)] = "l1"
    weight: NonNegativeFloat = 1.0
    epsilon: PositiveFloat = CHARBONNIER_EPSILON
    sharpen: bool = True


@settings
class PerceptualSettings:
    """The perceptual loss: differences of features of a classification network (section 4.1).

    Attributes:
        backbone: File of the classification network; nothing is downloaded. The paper's is
            vgg19-dcbb9e9d.pth.
        layers: Weights of the layers to compare; `conv` is before the activation, `relu` after it.
        weight: Weight of the difference of features, at least 0.
        style: Weight of the difference of their Gram matrices, at least 0. If both are 0, the loss
            is switched off.
        distance: Distance between two features.
        relative: Whether to divide by the size of the ground truth's features, for backbones whose
            features differ in scale from VGG19's.
        shift: Largest number of rows and of columns that are cut off at random before features are
            computed, so that the grid of the backbone's poolings leaves no pattern in the output.
        normalise: Whether to normalise images as in the backbone's own training.
        sharpen: Whether to compare with the sharpened ground truth (section 4.1).

    Example:
        >>> PerceptualSettings(Path("vgg19-dcbb9e9d.pth")).layers["conv5_4"]
        1.0
    """

    backbone: FilePath
    layers: Annotated[dict[str, PositiveFloat], Field(min_length=1)] = field(
        default_factory=lambda: dict(REAL_ESRGAN_LAYERS)
    )
    weight: NonNegativeFloat = 1.0
    style: NonNegativeFloat = 0.0
    distance: Distance = "l1"
    relative: bool = False
    shift: NonNegativeInt = 0
    normalise: bool = True
    sharpen: bool = True


@settings
class DistsSettings:
    """DISTS as a loss: similarity of structure and texture (arXiv 2004.07728).

    Attributes:
        backbone: File of VGG16 as torchvision stores it (vgg16-397923af.pth); nothing is
            downloaded.
        weights: File weights.pt of DISTS.
        weight: Factor of the loss; 0 switches it off.
        sharpen: Whether to compare with the sharpened ground truth (section 4.1).

    Example:
        >>> DistsSettings(Path("vgg16-397923af.pth"), Path("weights.pt")).weight
        1.0
    """

    backbone: FilePath
    weights: FilePath
    weight: NonNegativeFloat = 1.0
    sharpen: bool = True


@settings
class DiscriminatorSettings:
    """The discriminator network.

    Attributes:
        kind: `unet` with spectral normalisation (section 3.4), `vgg` (ESRGAN; patches of 128 or
            256), or `patch` (pix2pix).
        features: Channels after the first convolution.
        start: File of initial weights.

    Example:
        >>> DiscriminatorSettings().kind
        'unet'
    """

    kind: Literal["unet", "vgg", "patch"] = "unet"
    features: Channels = 64
    start: FilePath | None = None


@settings
class GanSettings:
    """The adversarial loss (section 4.1).

    Attributes:
        kind: Kind of loss.
        relativistic: Whether to compare real and fake with the mean of the other (ESRGAN, section
            3.2).
        weight: Weight of the generator's term; the discriminator's terms have none. 0 switches the
            loss off, with the discriminator.
        penalty: Weight of the gradient penalty of the discriminator (WGAN-GP, arXiv 1704.00028,
            which uses 10); `wgan` needs one.
        sharpen: Whether the discriminator gets sharpened images as real ones (section 4.1: no).
        discriminator: The discriminator network.
        optimiser: Optimiser of the discriminator; null for the same settings as the generator's.

    Example:
        >>> GanSettings(weight=0.05).discriminator.features
        64
    """

    kind: GanKind = "vanilla"
    relativistic: bool = False
    weight: NonNegativeFloat = 0.1
    penalty: NonNegativeFloat = 0.0
    sharpen: bool = False
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    optimiser: OptimiserSettings | None = None

    @model_validator(mode="after")
    def _check_penalty(self) -> GanSettings:
        if self.kind == "wgan" and self.weight > 0 and self.penalty == 0:
            raise rule_error(
                "nothing bounds the discriminator of wgan; set penalty to 10, or use wgan-softplus",
                "kind",
            )
        return self


@settings
class Stage:
    """One stage of training: Real-ESRNet or Real-ESRGAN (section 4.1).

    The first stage starts from `start` of the recipe, each later stage from the averaged weights of
    the stage before.

    Attributes:
        name: Name of the stage, also in the names of exported files.
        iterations: Number of optimiser steps; 1,000,000 and 400,000 in section 4.1.
        optimiser: Optimiser of the generator.
        batch: Patches per process and batch (section 4.1: 48 in all, which is 4 x 12).
        accumulate: Batches of each process per optimiser step.
        ema: Decay of the averaged weights, in [0, 1); 0 for no average.
        schedule: Schedule of all learning rates.
        pixel: Pixel loss, or null.
        more: Further pixel losses.
        perceptual: Perceptual loss, or null.
        dists: DISTS as a loss, or null.
        gan: Adversarial loss, or null.
        best_metric: Metric that decides which state is best; null for `saving.best_metric`.

    Example:
        >>> Stage("psnr", 100, OptimiserSettings(2e-4)).pixel.kind
        'l1'
    """

    name: Name
    iterations: PositiveInt
    optimiser: OptimiserSettings
    batch: Count = 12
    accumulate: Count = 1
    ema: Decay = 0.999
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    pixel: PixelSettings | None = field(default_factory=PixelSettings)
    more: tuple[PixelSettings, ...] = ()
    perceptual: PerceptualSettings | None = None
    dists: DistsSettings | None = None
    gan: GanSettings | None = None
    best_metric: Metric | None = None

    @field_validator("pixel", "dists", "gan")
    @classmethod
    def _without_weight(
        cls, loss: PixelSettings | DistsSettings | GanSettings | None
    ) -> PixelSettings | DistsSettings | GanSettings | None:
        return loss if loss is not None and loss.weight > 0 else None

    @field_validator("more")
    @classmethod
    def _check_more(cls, more: tuple[PixelSettings, ...]) -> tuple[PixelSettings, ...]:
        _check_distinct([loss.kind for loss in more])
        return tuple(loss for loss in more if loss.weight > 0)

    @field_validator("perceptual")
    @classmethod
    def _without_weights(cls, loss: PerceptualSettings | None) -> PerceptualSettings | None:
        return loss if loss is not None and loss.weight + loss.style > 0 else None

    @model_validator(mode="after")
    def _check_losses(self) -> Stage:
        if not (self.pixel or self.more or self.perceptual or self.dists or self.gan):
            raise rule_error("a stage needs a loss: pixel, perceptual or gan", "pixel")
        return self


@settings
class ValidationSet:
    """A set of validation images.

    Attributes:
        high: Folder of the HR images.
        name: Name of the set in logs.
        low: Folder of the LR images with the same names; null: they are created, always the same.
        chain: Degradation chain that creates LR images; null for that of the recipe.
        seed: Seed of the degradation.

    Example:
        >>> ValidationSet(Path("DIV2K_valid_HR"), name="DIV2K").seed
        0
    """

    high: FilePath
    name: Name = "validation"
    low: FilePath | None = None
    chain: Chain | None = None
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check_chain(self) -> ValidationSet:
        if self.low is not None and self.chain is not None:
            raise rule_error("low and chain exclude each other: both give LR images", "chain")
        if self.chain == "none" and self.low is None:
            raise rule_error(
                "the chain none creates no LR images; name their folder as low", "chain"
            )
        return self


@settings
class ValidationSettings:
    """Validation during training.

    Attributes:
        sets: Sets of validation images, at least one.
        every: Iterations from one validation to the next.
        metrics: Metrics of each image; those whose files are missing are skipped.
        border: Pixels at each side of the result that metrics ignore; null for the scale.
        images: Number of images of each set that are shown.

    Example:
        >>> ValidationSettings((ValidationSet(Path("photos")),)).metrics
        ('psnr', 'ssim')
    """

    sets: Annotated[tuple[ValidationSet, ...], Field(min_length=1)]
    every: PositiveInt = 5000
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = ("psnr", "ssim")
    border: NonNegativeInt | None = None
    images: NonNegativeInt = 4

    @model_validator(mode="after")
    def _check_names(self) -> ValidationSettings:
        _check_distinct([one.name for one in self.sets], "sets")
        _check_distinct(self.metrics, "metrics")
        return self


@settings
class LoggingSettings:
    """Logs of a training run, besides its log of JSON lines.

    Attributes:
        every: Iterations per line of the log.
        tensorboard: Whether to write curves and images for TensorBoard.

    Example:
        >>> LoggingSettings().every
        100
    """

    every: PositiveInt = 100
    tensorboard: bool = True


@settings
class SavingSettings:
    """Saved states, and the exported file.

    Attributes:
        every: Iterations from one saved state to the next.
        keep_last: Number of newest states to keep, at least 1.
        keep_best: Number of states with the best validation to keep.
        best_metric: Metric that decides which state is best, averaged over the validation sets.
        export: Precision of the exported file; states are saved in fp32.

    Example:
        >>> SavingSettings(export="fp16").keep_last
        2
    """

    every: PositiveInt = 5000
    keep_last: PositiveInt = 2
    keep_best: NonNegativeInt = 1
    best_metric: Metric = "psnr"
    export: Literal["fp32", "fp16"] = "fp32"


@settings
class ComputingSettings:
    """Precision and speed.

    Attributes:
        precision: Precision of autocast.
        channels_last: Whether networks use the channels-last memory layout.
        compile: Whether to use `torch.compile`.
        checkpoint_activations: Whether to recompute activations in the backward pass: slower, but
            needs less memory.

    Example:
        >>> ComputingSettings("bf16").channels_last
        True
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    checkpoint_activations: bool = False


@settings
class Recipe:
    """A whole training run.

    Attributes:
        name: Name of the run, also in the names of exported files.
        network: Network to train.
        data: Training data.
        stages: Stages in order, at least one.
        degradation: Degradation that creates LR images.
        seed: Seed of all random numbers, at least 0.
        start: Initial weights: the name of a network, or a file (with its suffix); x2 and x1
            networks can start from those of x4. `upscale.checkpoints.resolve` takes either.
        validation: Validation during training, or null.
        logging: Logs.
        saving: Saved states and exported file.
        computing: Precision and speed.
        licence: Licence of the trained weights, for the exported file.
        notes: Notes for the exported file.

    Example:
        >>> recipe = Recipe(
        ...     name="mine",
        ...     network=RRDBNetSettings(),
        ...     data=DataSettings((Source(Path("photos")),)),
        ...     stages=(Stage("psnr", 100, OptimiserSettings(2e-4)),),
        ... )
        >>> recipe.degradation.chain
        'real-esrgan'
    """

    name: Name
    network: Annotated[NetworkSettings, ClassBy("architecture", NETWORKS)]
    data: DataSettings
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    degradation: DegradationRecipe = field(default_factory=DegradationRecipe)
    seed: NonNegativeInt = 0
    start: Checkpoint | None = None
    validation: ValidationSettings | None = None
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    saving: SavingSettings = field(default_factory=SavingSettings)
    computing: ComputingSettings = field(default_factory=ComputingSettings)
    licence: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        _check_distinct([stage.name for stage in self.stages], "stages")
        self._check_patch()
        self._check_degradation()
        self._check_validation()
        for index, stage in enumerate(self.stages):
            self._check_stage(f"stages.{index}", stage)
        return self

    def saving_of(self, stage: Stage) -> SavingSettings:
        """Return the settings of saved states, with the best metric of a stage."""
        return replace(self.saving, best_metric=stage.best_metric or self.saving.best_metric)

    def _check_patch(self) -> None:
        multiple, data = self.network.patch_multiple, self.data
        if data.patch % multiple:
            raise rule_error(f"must be a multiple of {multiple}, not {data.patch}", "data.patch")
        if data.side % multiple:
            raise rule_error(
                f"twice the margin must be a multiple of {multiple}, not {2 * data.margin}",
                "data.margin",
            )

    def _check_degradation(self) -> None:
        key = "degradation.chain"
        if self.data.paired and self.degradation.chain != "none":
            raise rule_error(
                "the sources have LR images already; write none, or remove low from sources", key
            )
        if not self.data.paired and self.degradation.chain == "none":
            raise rule_error(
                "the chain none creates no LR images, and the sources have none (low)", key
            )
        try:
            self.degradation.settings(self.network.scale)
        except UsageError as error:
            raise rule_error(str(error), key) from error

    def _check_validation(self) -> None:
        if self.validation is None:
            return
        for index, one in enumerate(self.validation.sets):
            if self.degradation.chain == "none" and one.low is None and one.chain is None:
                raise rule_error(
                    "the recipe has no degradation; add low or chain to this set",
                    f"validation.sets.{index}",
                )
        chosen = {
            f"stages.{index}.best_metric": stage.best_metric
            for index, stage in enumerate(self.stages)
            if stage.best_metric is not None
        }
        if len(chosen) < len(self.stages):
            chosen["saving.best_metric"] = self.saving.best_metric
        for key, metric in chosen.items():
            if self.saving.keep_best and metric not in self.validation.metrics:
                names = ", ".join(self.validation.metrics)
                raise rule_error(f"{metric} is not one of the validation's metrics ({names})", key)

    def _check_stage(self, key: str, stage: Stage) -> None:
        pool = self.degradation.pool
        if self.degradation.chain != "none" and 0 < pool < stage.batch:
            raise rule_error(
                f"{pool} pairs are fewer than the batch of {stage.name}, {stage.batch}; increase "
                "it, or write 0 for no pool",
                "degradation.pool",
            )
        if stage.gan is None:
            return
        kind, patch = stage.gan.discriminator.kind, self.data.patch
        key += ".gan.discriminator.kind"
        if kind == "vgg" and patch not in _VGG_PATCHES:
            raise rule_error(
                f"a vgg discriminator needs patches of 128 or 256, but data.patch is {patch}", key
            )
        if patch < _SMALLEST_PATCH.get(kind, 0):
            raise rule_error(
                f"a {kind} discriminator needs patches of at least {_SMALLEST_PATCH[kind]}, but "
                f"data.patch is {patch}",
                key,
            )
