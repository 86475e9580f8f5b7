"""Option files of neosr and traiNNer-redux, rewritten in the words of BasicSR, their ancestor.

What BasicSR has no words for is kept as a part of a recipe. Keys without a counterpart are named.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.recipe.nodes import Node, as_node, compose, compose_file

_REDUX_KEYS = ("use_amp", "amp_bf16", "fast_matmul", "use_compile", "deterministic")
_SRVGG, _RRDB = "SRVGGNetCompact", "RRDBNet"

NETWORKS: Mapping[str, tuple[str, dict[str, int]]] = {
    "compact": (_SRVGG, {"num_feat": 64, "num_conv": 16}),
    "ultracompact": (_SRVGG, {"num_feat": 64, "num_conv": 8}),
    "superultracompact": (_SRVGG, {"num_feat": 24, "num_conv": 8}),
    "esrgan": (_RRDB, {"num_feat": 64, "num_block": 23, "num_grow_ch": 32}),
    "span": ("span", {"features": 48}),
    "realplksr": ("realplksr", {}),
}
"""Networks by their names there: those of BasicSR with its keys, others with keys of recipes."""

REDUX_NETWORKS: Mapping[str, tuple[str, dict[str, int]]] = NETWORKS | {
    "span": ("span", {"features": 52}),
    "span_s": ("span", {"features": 48}),
    "esrgan_lite": (_RRDB, {"num_feat": 32, "num_block": 12, "num_grow_ch": 32}),
    "realplksr_tiny": ("realplksr", {"blocks": 12, "kernel": 13, "attention": False}),
}
"""The same in traiNNer-redux."""

_NETWORK_KEYS = {
    "span": {"feature_channels": "features"},
    "realplksr": {
        "dim": "features", "n_blocks": "blocks", "kernel_size": "kernel", "use_ea": "attention",
    },
}  # fmt: skip
"""Keys of recipes by those of networks that BasicSR lacks."""

_USUAL = {
    "upsampler": "pixelshuffle",
    "dysample": False,
    "norm": False,
    "use_pixel_unshuffle": True,
}
"""Parameters of networks with the only value that recipes have."""

_CLIP = 1.0
"""Largest norm of gradients in neosr, unless it is told not to clip."""

_REDUX_CLIP = 100.0
"""Largest norm of gradients in traiNNer-redux, if it is told to clip."""

_PIXELS = {"l1": "L1Loss", "charbonnier": "CharbonnierLoss"}
_MORE = {"mssim": "ms-ssim", "msssim": "ms-ssim", "ldl": "ldl", "ff": "focal-frequency"}
_OPTIMISERS = {
    "adam": ("adam", ""),
    "adamw": ("adamw", ""),
    "adamw_sf": ("schedule-free", ""),
    "adamwschedulefree": ("schedule-free", ""),
    "adan": ("adan", ""),
    "adan_sf": ("adan", "adan is used, which needs a schedule"),
    "adanschedulefree": ("adan", "adan is used, which needs a schedule"),
}
_GANS = {"bce": "vanilla", "vanilla": "vanilla", "mse": "lsgan", "lsgan": "lsgan", "hinge": "hinge"}
_MIXES = ("mixup", "cutmix", "cutblur")
_METRICS = ("psnr", "ssim", "niqe", "lpips", "dists")

_SHARED = (
    "model_type", "use_amp", "bfloat16", "amp_bf16", "use_channels_last", "fast_matmul", "num_gpu",
    "use_compile", "compile", "compile_mode", "deterministic", "high_order_degradation",
    "high_order_degradations_debug", "high_order_degradations_debug_limit", "datasets.train.name",
    "path.resume_state", "path.param_key_g", "path.strict_load_g",
    "train.moa_debug", "train.moa_debug_limit", "val.tile_size", "val.tile_overlap",
    "val.metrics_enabled", "logger.save_checkpoint_format", "val.val_enabled", "val.save_img",
)  # fmt: skip
"""Keys that do not change results, or that are read together with others."""

Values = dict[str, Any]


@dataclass(slots=True)
class Foreign:
    """An option file of another trainer.

    Attributes:
        root: Its values in the words of BasicSR.
        extra: Parts of a recipe that BasicSR has no words for.
        notes: Notes about keys that are left out or handled differently, one line each.
        original: Keys of the file by those of BasicSR.
    """

    root: Node
    extra: Values
    notes: list[str]
    original: Mapping[str, str]

    def renamed(self, text: str) -> str:
        """Return a note or an error with the file's own key in place of BasicSR's."""
        for new, old in sorted(self.original.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(^|: ){re.escape(new)}(?=:)", rf"\g<1>{old}", text)
        return text


def read_foreign(path: Path) -> Foreign | None:
    """Read an option file of neosr or traiNNer-redux; return None for other files.

    Args:
        path: Option file of any trainer.

    Raises:
        TrainingError: The file cannot be read, or its network or data set has no counterpart.
    """
    if path.suffix.lower() == ".toml":
        return _Rewriter(path, _read_toml(path), "neosr").rewrite()
    root = compose_file(path)
    return (
        _Rewriter(path, root.to_python(), "traiNNer-redux").rewrite() if _is_redux(root) else None
    )


def _read_toml(path: Path) -> Values:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TrainingError(
            f"{printable(path)}: cannot be read ({reason}); name an option file"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{printable(path)}: is not TOML: {reason}") from error


def _is_redux(root: Node) -> bool:
    """Whether a file has keys of traiNNer-redux, and not the model type that BasicSR needs."""
    keys = root.entries()
    if "model_type" in keys:
        return False
    losses = root.find("train.losses").key == "train.losses" and "losses" in (
        keys["train"].children() if "train" in keys else ()
    )
    return losses or any(key in keys for key in _REDUX_KEYS)


def _flat(value: object, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and the values of nested mappings, and of lists of mappings."""
    inner: Sequence[tuple[object, object]] = ()
    if isinstance(value, dict):
        inner = list(cast("dict[object, object]", value).items())
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        inner = list(enumerate(cast("list[object]", value)))
    if not inner:
        yield key, value
    for name, each in inner:
        yield from _flat(each, f"{key}.{name}" if key else str(name))


@dataclass(slots=True)
class _Rewriter:
    """Moves the values of a file to the keys of BasicSR."""

    path: Path
    values: Values
    trainer: str
    _flat: Values = field(default_factory=dict[str, Any])
    _new: Values = field(default_factory=dict[str, Any])
    _original: dict[str, str] = field(default_factory=dict[str, str])
    _extra: Values = field(default_factory=dict[str, Any])
    _stage: Values = field(default_factory=dict[str, Any])
    _notes: list[str] = field(default_factory=list[str])
    _clip: float = 0.0

    def rewrite(self) -> Foreign:
        """Return the file in the words of BasicSR."""
        self._flat = {key: each for key, each in _flat(self.values) if each not in (None, {})}
        self._precision()
        for key in _SHARED:
            self._flat.pop(key, None)
        self._network()
        self._data()
        self._training()
        self._losses()
        self._validation()
        for old in list(self._flat):
            self._move(old, _basicsr_key(old), _basicsr_value)
        for old in self._flat:
            self._notes.append(f"{old}: has no counterpart and is ignored")
        self._extra["stages"] = self._stage
        # The official files sharpen; nothing in these does.
        self._extra["degradation"] = {"sharpen": False}
        self._notes.append(
            "degradation.sharpen: is false, and losses compare with unsharpened images"
        )
        mark = compose("{}", printable(self.path)).mark
        root = as_node(_nested(self._new), mark)
        return Foreign(root, self._extra, self._notes, self._original)

    def _fail(self, key: str, text: str) -> TrainingError:
        return TrainingError(
            f"{printable(self.path)}: {key}: {text} (option file of {self.trainer})"
        )

    def _take(self, key: str, default: object = None) -> Any:  # noqa: ANN401
        return self._flat.pop(key, default)

    def _set(self, key: str, value: object, old: str | None = None) -> None:
        self._new[key] = value
        self._original[key] = old or key

    def _move(self, old: str, new: str | None, convert: Callable[[Any], Any] | None = None) -> None:
        if new is not None and old in self._flat:
            value = self._flat.pop(old)
            self._set(new, convert(value) if convert else value, old)

    def _precision(self) -> None:
        if self._flat.get("use_amp"):
            is_wide = self._flat.get("bfloat16") or self._flat.get("amp_bf16")
            self._extra["computing"] = {"precision": "bf16" if is_wide else "fp16"}

    def _network(self) -> None:
        name = str(self._take("network_g.type", ""))
        scale = self._flat.get("scale", 4)
        is_neosr = self.trainer == "neosr"
        networks = NETWORKS if is_neosr else REDUX_NETWORKS
        if name not in networks:
            raise self._fail(
                "network_g.type", f"is {name}; only {', '.join(networks)} can be translated"
            )
        kind, settings = networks[name]
        for key, value in _USUAL.items():
            if self._flat.get(f"network_g.{key}") == value:
                self._take(f"network_g.{key}")
        if kind in (_SRVGG, _RRDB):
            self._set("network_g.type", kind)
            for key, value in settings.items():
                self._set(f"network_g.{key}", self._take(f"network_g.{key}", value))
            return
        # Overwritten by the part of the recipe.
        self._set("network_g.type", _SRVGG)
        known = {
            new: self._take(f"network_g.{old}")
            for old, new in _NETWORK_KEYS[kind].items()
            if f"network_g.{old}" in self._flat
        }
        if kind == "span" and not is_neosr and self._take("network_g.norm", False):
            known["normalised"] = True  # its range is 255 there, but 1 in neosr
        self._extra["network"] = {"architecture": kind, "scale": scale, **settings, **known}
        if kind == "realplksr" and not self._take("network_g.layer_norm", not is_neosr):
            self._notes.append(
                "network_g: normalises groups of channels; here each pixel is normalised, so that "
                "its weights cannot be the start"
            )

    def _data(self) -> None:
        kind = str(self._take("datasets.train.type", "")).lower()
        known = {
            "otf": "RealESRGANDataset",
            "realesrgandataset": "RealESRGANDataset",
            "paired": "PairedImageDataset",
            "pairedimagedataset": "PairedImageDataset",
        }
        if kind not in known:
            raise self._fail(
                "datasets.train.type", f"is {kind}; only {', '.join(known)} can be translated"
            )
        self._set("datasets.train.type", known[kind])
        scale = self._flat.get("scale", 4)
        if "datasets.train.patch_size" in self._flat:
            self._notes.append("datasets.train.patch_size: is taken for the side of LR patches")
        for key in ("datasets.train.patch_size", "datasets.train.lq_size"):
            self._move(key, "datasets.train.gt_size", lambda side: scale * side)
        self._move("datasets.train.batch_size", "datasets.train.batch_size_per_gpu")
        for key in ("datasets.train.accumulate", "datasets.train.accum_iter"):
            if key in self._flat:
                self._stage["accumulate"] = self._take(key)
        self._sources()
        self._mixes()

    def _sources(self) -> None:
        """Keep lists of folders as several sources."""
        roots = [self._flat.get(f"datasets.train.dataroot_{name}") for name in ("gt", "lq")]
        if isinstance(roots[0], list):
            lows = roots[1] if isinstance(roots[1], list) else [None] * len(roots[0])
            self._extra["data"] = {
                "sources": [
                    {"path": high, "low": low} for high, low in zip(roots[0], lows, strict=False)
                ]
            }
            for name in ("gt", "lq"):
                value = self._take(f"datasets.train.dataroot_{name}")
                if value:
                    self._set(f"datasets.train.dataroot_{name}", value[0])

    def _mixes(self) -> None:
        names, shares, enabled = (
            ("datasets.train.augmentation", "datasets.train.aug_prob", True)
            if self.trainer == "neosr"
            else ("train.moa_augs", "train.moa_probs", bool(self._take("train.use_moa", False)))
        )
        kinds, weights = self._take(names, []), self._take(shares, [])
        total = sum(weights)
        if not enabled or not total:
            return
        shares_of = {kind: weight / total for kind, weight in zip(kinds, weights, strict=False)}
        self._extra.setdefault("data", {})["mix"] = {
            kind: round(share, 6) for kind, share in shares_of.items() if kind in _MIXES
        }
        self._notes += [
            f"{names}: {kind} has no counterpart and is ignored"
            for kind in shares_of
            if kind not in (*_MIXES, "none")
        ]

    def _training(self) -> None:
        for old, new in (
            ("train.ema", "train.ema_decay"),
            ("logger.total_iter", "train.total_iter"),
            ("second_blur_prob", "second_blur_prob"),
            ("blur_prob2", "second_blur_prob"),
        ):
            self._move(old, new)
        is_neosr = self.trainer == "neosr"
        limit = _CLIP if is_neosr else self._take("train.grad_clip_max_norm", _REDUX_CLIP)
        self._clip = float(limit) if self._take("train.grad_clip", is_neosr) else 0.0
        for name in ("optim_g", "optim_d"):
            self._optimiser(f"train.{name}")

    def _optimiser(self, key: str) -> None:
        kind = str(self._take(f"{key}.type", "")).lower()
        self._take(f"{key}.schedule_free")
        if not kind:
            return
        if kind not in _OPTIMISERS:
            raise self._fail(
                f"{key}.type", f"is {kind}; only {', '.join(_OPTIMISERS)} can be translated"
            )
        found, note = _OPTIMISERS[kind]
        if note:
            self._notes.append(f"{key}.type: is {kind}; {note}")
        # Overwritten by the part of the recipe, which has more kinds.
        self._set(f"{key}.type", "AdamW")
        owner = self._stage if key.endswith("_g") else self._stage.setdefault("gan", {})
        owner["optimiser"] = {"kind": found, "clip": self._clip}
        if found == "adan" and f"{key}.betas" not in self._flat:
            owner["optimiser"]["betas"] = [0.98, 0.92, 0.99]
        warmup = self._take(f"{key}.warmup_steps")
        if warmup is not None and key.endswith("_g"):
            self._set("train.warmup_iter", warmup, f"{key}.warmup_steps")
        elif warmup is not None and warmup != self._new.get("train.warmup_iter"):
            self._notes.append(f"{key}.warmup_steps: is {warmup}; that of the generator is used")

    def _losses(self) -> None:
        for key, kind, weight in list(self._found_losses()):
            self._loss(key, kind, weight)
        is_gan = "train.gan_opt.type" in self._new
        synthetic = self._new["datasets.train.type"] == "RealESRGANDataset"
        names = ("RealESRGANModel", "RealESRNetModel") if synthetic else ("SRGANModel", "SRModel")
        self._set("model_type", names[0] if is_gan else names[1])
        for key in ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "gt_usm") if synthetic else ():
            self._set(key, False)
        if is_gan:
            self._discriminator()
        else:
            for key in [key for key in self._flat if key.startswith("network_d")]:
                self._take(key)
            self._stage.pop("gan", None)

    def _found_losses(self) -> Iterator[tuple[str, str, float]]:
        """Yield the key, the kind and the weight of each loss."""
        for key in [key for key in self._flat if re.fullmatch(r"train\.\w+(\.\d+)?\.type", key)]:
            owner = key.removesuffix(".type")
            if owner.endswith(("optim_g", "optim_d", "scheduler")):
                continue
            kind = str(self._take(key)).lower().replace("_", "").removesuffix("loss")
            weight = self._take(f"{owner}.loss_weight", 1.0)
            yield owner, kind, weight

    def _loss(self, key: str, kind: str, weight: float) -> None:
        if not weight:
            for each in [each for each in self._flat if each.startswith(f"{key}.")]:
                self._take(each)
        elif kind in _PIXELS:
            self._set("train.pixel_opt.type", _PIXELS[kind], key)
            self._set("train.pixel_opt.loss_weight", weight, key)
        elif kind in _MORE:
            more = {"kind": _MORE[kind], "weight": weight, "sharpen": False}
            self._stage.setdefault("more", []).append(more)
        elif kind == "gan":
            gan = str(self._take(f"{key}.gan_type", "vanilla"))
            self._set("train.gan_opt.type", "GANLoss", key)
            self._set("train.gan_opt.gan_type", _GANS.get(gan, gan), f"{key}.gan_type")
            self._set("train.gan_opt.loss_weight", weight, key)
        elif kind in ("perceptual", "vggperceptual"):
            self._set("train.perceptual_opt.type", "PerceptualLoss", key)
            self._set("train.perceptual_opt.perceptual_weight", weight, key)
            self._notes.append(f"{key}: layers are those of Real-ESRGAN, compared by L1")
            self._take(f"{key}.criterion")
        else:
            self._notes.append(f"{key}: is {kind}, which has no counterpart and is ignored")

    def _discriminator(self) -> None:
        kind = str(self._take("network_d.type", "")).lower()
        if kind not in ("unet", "unetdiscriminatorsn"):
            self._notes.append(f"network_d.type: is {kind}; unet is used")
        self._set("network_d.type", "UNetDiscriminatorSN")

    def _validation(self) -> None:
        entries = self.values.get("val")
        settings = cast(Values, entries) if isinstance(entries, dict) else {}
        keys = [key for key in self._flat if key.startswith(("datasets.val", "val."))]
        taken = {key: self._take(key) for key in keys}
        high, low = (taken.get(f"datasets.val.dataroot_{name}") for name in ("gt", "lq"))
        if settings.get("val_enabled") is False and high:
            self._notes.append("datasets.val: is left out, because val.val_enabled is false")
        if settings.get("val_enabled") is False or not settings or not high:
            return
        highs, lows = (each if isinstance(each, list) else [each] for each in (high, low))
        for number, (each, other) in enumerate(zip(highs, lows, strict=False)):
            name = f"datasets.val_{number}"
            self._set(f"{name}.name", f"validation-{number}" if len(highs) > 1 else "validation")
            self._set(f"{name}.type", "PairedImageDataset")
            self._set(f"{name}.dataroot_gt", each, "datasets.val.dataroot_gt")
            self._set(f"{name}.dataroot_lq", other, "datasets.val.dataroot_lq")
        for key, value in taken.items():
            if key == "val.val_freq" or key.startswith("val.metrics."):
                self._set(key, value)


_GENERAL = (
    r"name|scale|manual_seed|queue_size|path\.pretrain_network_[gd]|train\.(ema_decay|total_iter"
    r"|warmup_iter|scheduler\..*|optim_[gd]\..*)|logger\..*|datasets\.train\..*"
    r"|network_[gd]\.num_\w+|(resize_prob|resize_range|gaussian_noise_prob|noise_range"
    r"|poisson_scale_range|gray_noise_prob|jpeg_range|jpeg_prob|resize_mode_list)[123]?|blur_prob"
    r"|second_blur_prob|final_sinc_prob"
)
"""Keys that BasicSR has, or that are read beside its own."""

_BLURS = (
    r"blur_kernel_size2?|kernel_list2?|kernel_prob2?|kernel_range2?|sinc_prob2?|blur_sigma2?"
    r"|betag_range2?|betap_range2?|final_sinc_prob|final_kernel_range"
)
"""Keys of neosr's section of degradations that belong to the data set in BasicSR."""


_VALUES = {
    "nearest-exact": "nearest",
    "multisteplr": "MultiStepLR",
    "cosineannealing": "CosineAnnealingLR",
    "cosineannealinglr": "CosineAnnealingLR",
}
"""Words of BasicSR, or of recipes, by those of the file."""


def _basicsr_key(key: str) -> str | None:
    """Return the key of BasicSR, or None if it has none."""
    name = key.removeprefix("degradations.")
    if name != key and re.fullmatch(_BLURS, name):
        return f"datasets.train.{name}"
    return name if re.fullmatch(_GENERAL, name) else None


def _basicsr_value(value: object) -> object:
    if isinstance(value, list):
        return [_basicsr_value(each) for each in cast("list[object]", value)]
    return _VALUES.get(value, value) if isinstance(value, str) else value


def _nested(flat: Mapping[str, Any]) -> Values:
    root: Values = {}
    for key, value in flat.items():
        *owners, name = key.split(".")
        place = root
        for owner in owners:
            place = place.setdefault(owner, {})
        place[name] = value
    return root
