"""Translate option files of Real-ESRGAN, BasicSR, neosr and traiNNer-redux into recipes.

A recipe is assembled from the values of an option file, which keep their lines, and validated like
any other. Values that the option file lacks are basicsr's defaults.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from upscale.errors import TrainingError
from upscale.files.printable import printable
from upscale_training.degradation import real_esrgan
from upscale_training.degradation.steps import Families
from upscale_training.losses import GanKind
from upscale_training.recipe.nodes import as_node, compose_file
from upscale_training.recipe.official import Options
from upscale_training.recipe.other_trainers import read_foreign
from upscale_training.recipe.reading import build_recipe
from upscale_training.recipe.settings import Recipe

Section = dict[str, Any]
"""A part of a recipe: nodes of the option file and plain values, of which None is omitted."""

_TRAIN = "datasets.train"
_DEGRADED = 400
"""Side of the squares that the official data set cuts from images, in pixels."""
_GAN_MODELS = ("RealESRGANModel", "ESRGANModel", "SRGANModel")
_MODELS = ("RealESRNetModel", "SRModel", *_GAN_MODELS)
_DATASETS = ("RealESRGANDataset", "RealESRGANPairedDataset", "PairedImageDataset")
_OPTIMISERS = {"Adam": ("adam", 0.0), "AdamW": ("adamw", 0.01)}
"""The kind in recipes, and torch's default weight decay."""

_PIXELS = {"L1Loss": "l1", "CharbonnierLoss": "charbonnier"}
_BACKBONES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
"""Files of torchvision, which basicsr downloads."""

_DISTANCES = {"l1": "l1", "l2": "l2", "fro": "frobenius"}
_GANS = {name.replace("-", "_"): name for name in get_args(GanKind)}
_DISCRIMINATORS = {"UNetDiscriminatorSN": "unet", "VGGStyleDiscriminator": "vgg"}
_METRICS = {"calculate_psnr": "psnr", "calculate_ssim": "ssim", "calculate_niqe": "niqe"}

_COSINES = ("CosineAnnealingRestartLR", "TrueCosineAnnealingLR", "CosineAnnealingLR")
_BY_NAME = "LR images are found by the name of the HR image"

_IGNORED = (
    "num_gpu", "dist_params", "find_unused_parameters", "high_order_degradation",
    "path.param_key_g", "path.param_key_d", "path.strict_load_g", "path.strict_load_d",
    f"{_TRAIN}.name", f"{_TRAIN}.io_backend", f"{_TRAIN}.use_shuffle", f"{_TRAIN}.pin_memory",
    f"{_TRAIN}.dataset_enlarge_ratio", f"{_TRAIN}.prefetch_mode",
)  # fmt: skip
"""Keys that do not change results, or that `upscale` determines itself."""


def translate(path: Path) -> tuple[Recipe, tuple[str, ...]]:
    """Translate an official option file into a recipe.

    Args:
        path: Option file of Real-ESRGAN; or of BasicSR, neosr or traiNNer-redux for the same
            networks.

    Returns:
        The recipe, with paths as in the option file, and notes about values that are ignored or
        handled differently, one line each.

    Raises:
        TrainingError: The file is no such file, or needs something that `upscale` lacks.
    """
    foreign = read_foreign(path)
    if foreign is None:
        return _translate(Options(compose_file(path), _IGNORED), {})
    try:
        recipe, notes = _translate(Options(foreign.root, _IGNORED), foreign.extra)
    except TrainingError as error:
        name = printable(path)
        text = str(error).replace(f"{name}:1:", f"{name}:")  # the lines of the file are lost
        raise TrainingError(foreign.renamed(text)) from error
    return recipe, (*foreign.notes, *map(foreign.renamed, notes))


def _translate(options: Options, extra: Section) -> tuple[Recipe, tuple[str, ...]]:
    """Translate options; `extra` are parts of a recipe that replace those of BasicSR."""
    model = options.one_of("model_type", _MODELS)
    validation = _validation(options)
    metrics = validation["metrics"] if validation else None
    section = {
        "name": options.get("name"),
        "seed": options.get("manual_seed"),
        "start": options.get("path.pretrain_network_g"),
        "network": _network(options),
        "data": _data(options),
        "degradation": _degradation(options, model),
        "stages": [_stage(options, model)],
        "validation": validation,
        "logging": {
            "every": options.whole("logger.print_freq"),
            "tensorboard": options.get("logger.use_tb_logger"),
        },
        "saving": {
            "every": options.whole("logger.save_checkpoint_freq"),
            "best_metric": metrics[0] if metrics else None,
        },
    }
    _merge(section, extra)
    recipe = build_recipe(as_node(section, options.root.mark))
    degradation, scale = recipe.degradation, recipe.network.scale
    if degradation.settings(scale) == real_esrgan(scale, degradation.mode):
        recipe = replace(recipe, degradation=replace(degradation, chain="real-esrgan"))
    return recipe, (*options.notes, *options.unused())


def _merge(section: Section, extra: Section) -> None:
    """Put the parts of a recipe into a section; those of `stages` belong to its only stage."""
    for key, value in extra.items():
        present = section.get(key)
        if key == "stages" and isinstance(present, list):
            present = present[0]
        if key == "network" or not isinstance(present, dict) or not isinstance(value, dict):
            section[key] = value
        else:
            _merge(present, value)


def _network(options: Options) -> Section:
    kind = options.one_of("network_g.type", ("RRDBNet", "SRVGGNetCompact", "RCAN"))
    for key in ("network_g.num_in_ch", "network_g.num_out_ch"):
        options.only(key, 3)
    section = {"scale": options.get_or("scale", 4), "features": options.get("network_g.num_feat")}
    if kind == "RRDBNet":
        options.only("network_g.scale", options.plain("scale", 4))
        return section | {
            "architecture": "rrdbnet",
            "blocks": options.get("network_g.num_block"),
            "growth": options.get("network_g.num_grow_ch"),
        }
    options.only("network_g.upscale", options.plain("scale", 4))
    if kind == "RCAN":
        options.only("network_g.res_scale", 1)
        options.only("network_g.img_range", 255)
        options.only("network_g.rgb_mean", [0.4488, 0.4371, 0.4040])
        return section | {
            "architecture": "rcan",
            "groups": options.get_or("network_g.num_group", 10),
            "blocks": options.get_or("network_g.num_block", 16),
            "reduction": options.get("network_g.squeeze_factor"),
        }
    options.only("network_g.act_type", "prelu")
    convolutions = options.get_or("network_g.num_conv", 16)
    return section | {"architecture": "srvgg", "convolutions": convolutions}


def _data(options: Options) -> Section:
    index = options.get(f"{_TRAIN}.meta_info_file") or options.get(f"{_TRAIN}.meta_info")
    in_database = options.plain(f"{_TRAIN}.io_backend.type") == "lmdb"
    options.expect(f"{_TRAIN}.filename_tmpl", "{}", _BY_NAME)
    source = {
        "path": options.get(f"{_TRAIN}.dataroot_gt"),
        "low": options.get(f"{_TRAIN}.dataroot_lq"),
        "index": None if in_database else index,
    }
    global_size = options.get("gt_size")
    patch = options.plain(f"{_TRAIN}.gt_size", options.plain("gt_size"))
    degraded = _is_synthetic(options) and isinstance(patch, int)
    return {
        "sources": [source],
        "patch": options.get_or(f"{_TRAIN}.gt_size", global_size),
        "margin": max(_DEGRADED - patch, 0) // 2 if degraded else None,
        "flips": options.get(f"{_TRAIN}.use_hflip"),
        "rotations": options.get(f"{_TRAIN}.use_rot"),
        "workers": options.get(f"{_TRAIN}.num_worker_per_gpu"),
    }


def _is_synthetic(options: Options) -> bool:
    return options.one_of(f"{_TRAIN}.type", _DATASETS) == "RealESRGANDataset"


def _degradation(options: Options, model: str) -> Section:
    """Translate the second-order chain, half of which is set in the data set, half in the model."""
    if not _is_synthetic(options):
        return {"chain": "none", "sharpen": False}
    options.notes += [
        "degradation.mode: is corrected; official reproduces the official code",
    ]
    for key in ("blur_kernel_size", "blur_kernel_size2"):
        options.expect(
            f"{_TRAIN}.{key}", 21, "kernels have sides of 7 to 21 pixels, as in the official code"
        )
    usm = options.get("gt_usm")
    final = {
        "do": "resize", "up": 0, "down": 0, "keep": 1, "of": "result",
        "kinds": options.get("resize_mode_list3"),
    }  # fmt: skip
    last = {
        "do": "blur",
        "sizes": options.get(f"{_TRAIN}.final_kernel_range"),
        "probability": options.get(f"{_TRAIN}.final_sinc_prob"),
        "sinc": 1,
        "large_cutoff": [math.pi / 3, math.pi],
        "skip_together": False,
    }
    return {
        "chain": [
            *_order(options, "", "present"),
            _jpeg(options, ""),
            *_order(options, "2", "result"),
            {
                "do": "either_order",
                "one": [final, last],
                "other": [_jpeg(options, "2")],
            },
        ],
        "sharpen": usm if model == "RealESRNetModel" else True,
        "pool": options.get("queue_size"),
    }


def _jpeg(options: Options, order: str) -> Section:
    return {
        "do": "jpeg",
        "quality": options.get(f"jpeg_range{order}"),
        "probability": options.get(f"jpeg_prob{order}"),
    }


def _order(options: Options, order: str, of: str) -> list[Section]:
    """Translate blur, resize and noise of the first or second order."""
    gaussian = options.number(f"gaussian_noise_prob{order}", 0.5)
    blur = {
        "do": "blur",
        "probability": options.get("second_blur_prob" if order else "blur_prob"),
        "sizes": options.get(f"{_TRAIN}.kernel_range{order}"),
        "sinc": options.get(f"{_TRAIN}.sinc_prob{order}"),
        "families": _families(options, order),
        "sigma": options.get(f"{_TRAIN}.blur_sigma{order}"),
        "generalised_beta": options.get(f"{_TRAIN}.betag_range{order}"),
        "plateau_beta": options.get(f"{_TRAIN}.betap_range{order}"),
    }
    ways = dict(zip(("up", "down", "keep"), options.items(f"resize_prob{order}"), strict=False))
    resize = {"do": "resize", **ways, "factors": options.get(f"resize_range{order}"), "of": of}
    resize["kinds"] = options.get(f"resize_mode_list{order}")
    noise = {
        "do": "noise",
        "gaussian": gaussian,
        "poisson": 1 - gaussian,
        "sigma": options.get(f"noise_range{order}"),
        "scale": options.get(f"poisson_scale_range{order}"),
        "grey": options.get(f"gray_noise_prob{order}"),
    }
    return [blur, resize, noise]


def _families(options: Options, order: str) -> Section | None:
    names = options.items(f"{_TRAIN}.kernel_list{order}")
    shares = options.items(f"{_TRAIN}.kernel_prob{order}")
    families = [str(name.to_python()).replace("generalized", "generalised") for name in names]
    unnamed = dict.fromkeys(Families().weights(), 0)
    return {**unnamed, **dict(zip(families, shares, strict=False))} if families else None


def _stage(options: Options, model: str) -> Section:
    sharpen = _sharpen(options, model)
    gan = _gan(options, model, sharpen[2]) if model in _GAN_MODELS else None
    return {
        "name": "gan" if gan else "psnr",
        "iterations": options.whole("train.total_iter"),
        "batch": options.get(f"{_TRAIN}.batch_size_per_gpu"),
        "ema": options.get_or("train.ema_decay", 0),
        "optimiser": _optimiser(options, "train.optim_g"),
        "schedule": _schedule(options),
        "pixel": _pixel(options, sharpen[0]),
        "perceptual": _perceptual(options, sharpen[1]),
        "gan": gan,
    }


def _sharpen(options: Options, model: str) -> tuple[Any, Any, Any]:
    """Return whether the pixel, perceptual and GAN loss use sharpened images."""
    if model == "RealESRGANModel":
        keys = ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
        return tuple(options.get_or(key, True) for key in keys)
    usm = options.get_or("gt_usm", False)
    return (usm if model == "RealESRNetModel" and _is_synthetic(options) else False, False, False)


def _optimiser(options: Options, key: str) -> Section:
    kind, decay = _OPTIMISERS[options.one_of(f"{key}.type", _OPTIMISERS)]
    return {
        "kind": kind,
        "learning_rate": options.get(f"{key}.lr"),
        "betas": options.get_or(f"{key}.betas", [0.9, 0.999]),
        "weight_decay": options.get_or(f"{key}.weight_decay", decay),
    }


def _schedule(options: Options) -> Section:
    warmup = options.whole("train.warmup_iter")
    if options.number("train.warmup_iter", -1) < 0:
        warmup = None
    if not options.names("train.scheduler"):
        return {"warmup": warmup}
    kind = str(options.plain("train.scheduler.type"))
    if kind in _COSINES:
        return _cosine(options, warmup, kind)
    if kind not in ("MultiStepLR", "MultiStepRestartLR"):
        options.get("train.scheduler")
        options.notes.append(f"train.scheduler: is {kind}; the learning rate stays constant")
        return {"warmup": warmup}
    return {
        "warmup": warmup,
        "milestones": options.get("train.scheduler.milestones"),
        "gamma": options.get_or("train.scheduler.gamma", 0.1),
    }


def _cosine(options: Options, warmup: Any, kind: str) -> Section:  # noqa: ANN401  # a node
    """Translate a cosine; basicsr gives its end as a learning rate instead of a share."""
    rate = options.number("train.optim_g.lr", 1e-3)
    end = options.number("train.scheduler.eta_min", 0)
    if any(weight != 1 for weight in options.plain("train.scheduler.restart_weights", [])):
        options.notes.append("train.scheduler.restart_weights: all periods start at the full rate")
    restarts = kind == "CosineAnnealingRestartLR"
    if not restarts:
        options.expect(
            "train.scheduler.T_max",
            options.plain("train.total_iter"),
            "the learning rate falls over the whole stage",
        )
    periods = options.get("train.scheduler.periods") if restarts else None
    return {"warmup": warmup, "kind": "cosine", "minimum": end / rate, "periods": periods}


def _pixel(options: Options, sharpen: object) -> Any:  # noqa: ANN401  # also a null
    if not options.names("train.pixel_opt"):
        return as_node(None, options.root.mark)
    section = {
        "kind": _PIXELS[options.one_of("train.pixel_opt.type", _PIXELS)],
        "weight": options.get("train.pixel_opt.loss_weight"),
        "sharpen": sharpen,
    }
    options.only("train.pixel_opt.reduction", "mean")
    if section["kind"] == "charbonnier":
        # basicsr's eps is the square
        section["epsilon"] = math.sqrt(options.number("train.pixel_opt.eps", 1e-12))
    return section


def _perceptual(options: Options, sharpen: object) -> Section | None:
    key = "train.perceptual_opt"
    if not options.names(key):
        return None
    options.only(f"{key}.type", "PerceptualLoss")
    options.only(f"{key}.range_norm", False)
    return {
        "backbone": _BACKBONES[options.one_of(f"{key}.vgg_type", _BACKBONES, "vgg19")],
        "layers": options.get(f"{key}.layer_weights"),
        "weight": options.get(f"{key}.perceptual_weight"),
        "style": options.get(f"{key}.style_weight"),
        "distance": _DISTANCES[options.one_of(f"{key}.criterion", _DISTANCES, "l1")],
        "normalise": options.get(f"{key}.use_input_norm"),
        "sharpen": sharpen,
    }


def _gan(options: Options, model: str, sharpen: object) -> Section:
    options.only("train.gan_opt.type", "GANLoss")
    options.only("train.gan_opt.real_label_val", 1)
    options.only("train.gan_opt.fake_label_val", 0)
    options.expect("train.net_d_iters", 1, "generator and discriminator alternate")
    options.expect("train.net_d_init_iters", 0, "generator and discriminator start together")
    return {
        "kind": _GANS[options.one_of("train.gan_opt.gan_type", _GANS)],
        "relativistic": model == "ESRGANModel",
        "weight": options.get_or("train.gan_opt.loss_weight", 1.0),
        "sharpen": sharpen,
        "discriminator": _discriminator(options),
        "optimiser": _optimiser(options, "train.optim_d"),
    }


def _discriminator(options: Options) -> Section:
    kind = _DISCRIMINATORS[options.one_of("network_d.type", _DISCRIMINATORS)]
    options.only("network_d.num_in_ch", 3)
    options.only("network_d.skip_connection", True)
    patch = options.plain(f"{_TRAIN}.gt_size", options.plain("gt_size"))
    options.only("network_d.input_size", patch)
    return {
        "kind": kind,
        "features": options.get("network_d.num_feat"),
        "start": options.get("path.pretrain_network_d"),
    }


def _validation(options: Options) -> Section | None:
    names = [name for name in options.names("datasets") if name.partition("_")[0] == "val"]
    if not options.names("val"):
        return None
    sets: list[Section] = []
    for name in names:
        key = f"datasets.{name}"
        kind = options.plain(f"{key}.type")
        options.get(f"{key}.io_backend")
        if kind != "PairedImageDataset":
            options.get(key)
            options.notes.append(f"{key}: is {kind} and is ignored")
            continue
        options.expect(f"{key}.filename_tmpl", "{}", _BY_NAME)
        high, low = options.get(f"{key}.dataroot_gt"), options.get(f"{key}.dataroot_lq")
        sets.append({"name": options.get(f"{key}.name"), "high": high, "low": low})
    metrics, border = _metrics(options)
    if not sets:
        return None
    return {
        "sets": sets,
        "every": options.whole("val.val_freq"),
        "metrics": metrics or None,
        "border": border,
        "images": None if options.plain("val.save_img") else 0,
    }


def _metrics(options: Options) -> tuple[list[str], Any]:
    """Return the metrics that `upscale` has, and the border of the last one."""
    metrics: list[str] = []
    border = None
    for name in options.names("val.metrics"):
        key = f"val.metrics.{name}"
        kind = str(options.plain(f"{key}.type"))
        if kind not in _METRICS:
            options.get(key)
            options.notes.append(f"{key}: is {kind} and is ignored")
            continue
        luma = options.plain(f"{key}.test_y_channel") is True and kind != "calculate_niqe"
        metrics.append(_METRICS[kind] + ("-y" if luma else ""))
        border = options.get(f"{key}.crop_border")
        options.get(f"{key}.better")
    return metrics, border
