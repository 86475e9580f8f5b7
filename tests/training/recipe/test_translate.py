"""Official option files become recipes; what cannot be carried is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from upscale_training.degradation.steps import (
    BlurStep,
    EitherOrder,
    Families,
    NoiseStep,
    ResizeStep,
)
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.settings import (
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    MixSettings,
    OptimiserSettings,
    PixelSettings,
    RealPLKSRSettings,
    RRDBNetSettings,
    Source,
    SPANSettings,
    SRVGGSettings,
    ValidationSet,
)
from upscale_training.recipe.translate import translate
from upscale_training.recipe.writing import to_yaml
from upscale_training.recipes import bundled

from upscale.errors import TrainingError

# Values unlike the defaults of anything, in the schema of Real-ESRGAN's option files.
GAN = """\
name: mine
model_type: RealESRGANModel
scale: 2
num_gpu: auto
manual_seed: 7
l1_gt_usm: False
percep_gt_usm: True
gan_gt_usm: True
resize_prob: [0.1, 0.8, 0.1]
resize_range: [0.2, 1.4]
gaussian_noise_prob: 0.25
noise_range: [2, 20]
poisson_scale_range: [0.1, 2]
gray_noise_prob: 0.3
jpeg_range: [40, 90]
second_blur_prob: 0.7
resize_prob2: [0.2, 0.5, 0.3]
resize_range2: [0.4, 1.1]
gaussian_noise_prob2: 0.75
noise_range2: [3, 15]
poisson_scale_range2: [0.2, 1.5]
gray_noise_prob2: 0.6
jpeg_range2: [50, 80]
gt_size: 192
queue_size: 96
datasets:
  train:
    name: whatever
    type: RealESRGANDataset
    dataroot_gt: datasets/mine
    meta_info: datasets/mine.txt
    io_backend:
      type: disk
    blur_kernel_size: 21
    kernel_list: ['iso', 'generalized_aniso', 'plateau_iso']
    kernel_prob: [0.5, 0.3, 0.2]
    sinc_prob: 0.2
    blur_sigma: [0.3, 2]
    betag_range: [0.6, 3]
    betap_range: [0.9, 1.8]
    blur_kernel_size2: 21
    kernel_list2: ['aniso']
    kernel_prob2: [1]
    sinc_prob2: 0.3
    blur_sigma2: [0.4, 1]
    betag_range2: [0.7, 2]
    betap_range2: [0.8, 1.7]
    final_sinc_prob: 0.6
    gt_size: 192
    use_hflip: False
    use_rot: True
    use_shuffle: true
    num_worker_per_gpu: 3
    batch_size_per_gpu: 8
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: Set14
    type: PairedImageDataset
    dataroot_gt: Set14/GT
    dataroot_lq: Set14/LQ
    io_backend:
      type: disk
network_g:
  type: RRDBNet
  num_in_ch: 3
  num_out_ch: 3
  num_feat: 48
  num_block: 6
  num_grow_ch: 24
  scale: 2
network_d:
  type: UNetDiscriminatorSN
  num_in_ch: 3
  num_feat: 32
  skip_connection: True
path:
  pretrain_network_g: experiments/net_g.pth
  param_key_g: params_ema
  strict_load_g: true
  pretrain_network_d: experiments/net_d.pth
  param_key_d: params
  strict_load_d: true
  resume_state: ~
train:
  ema_decay: 0.99
  optim_g:
    type: Adam
    lr: !!float 3e-4
    weight_decay: 0
    betas: [0.8, 0.95]
  optim_d:
    type: AdamW
    lr: !!float 5e-5
  scheduler:
    type: MultiStepLR
    milestones: [100, 200]
    gamma: 0.25
  total_iter: !!float 4e5
  warmup_iter: 50
  pixel_opt:
    type: CharbonnierLoss
    loss_weight: 0.5
    reduction: mean
    eps: 1.0e-8
  perceptual_opt:
    type: PerceptualLoss
    layer_weights:
      'relu2_2': 0.2
      'conv5_3': 2
    vgg_type: vgg16
    use_input_norm: false
    perceptual_weight: 0.7
    style_weight: 0.1
    range_norm: false
    criterion: fro
  gan_opt:
    type: GANLoss
    gan_type: wgan_softplus
    real_label_val: 1.0
    fake_label_val: 0.0
    loss_weight: !!float 2e-1
  net_d_iters: 1
  net_d_init_iters: 0
val:
  val_freq: !!float 2e3
  save_img: False
  metrics:
    ssim:
      type: calculate_ssim
      crop_border: 3
      test_y_channel: false
logger:
  print_freq: 50
  save_checkpoint_freq: !!float 1e3
  use_tb_logger: false
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""


@pytest.fixture
def write(tmp_path):
    """Writes the option file above, with dotted keys changed (`None`: taken out)."""

    def write(**changes) -> Path:
        options = yaml.safe_load(GAN)
        for key, value in changes.items():
            *above, last = key.split("__")
            section = options
            for name in above:
                section = section.setdefault(name, {})
            section.pop(last, None)
            if value is not None:
                section[last] = value
        path = tmp_path / "options.yml"
        path.write_text(yaml.safe_dump(options, sort_keys=False))
        return path

    return write


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "official.yml"
    path.write_text(GAN)
    return path


def test_network_data_and_other_sections_are_translated(official):
    recipe, _ = translate(official)
    assert (recipe.name, recipe.seed) == ("mine", 7)
    assert recipe.start == Path("experiments/net_g.pth")
    assert recipe.network == RRDBNetSettings("rrdbnet", 2, 48, 6, 24)
    assert recipe.data.sources == (Source(Path("datasets/mine"), index=Path("datasets/mine.txt")),)
    assert (recipe.data.patch, recipe.data.workers) == (192, 3)
    assert not recipe.data.flips and recipe.data.rotations
    assert (recipe.logging.every, recipe.logging.tensorboard) == (50, False)
    assert recipe.saving.every == 1000


def test_the_stage_and_its_losses_are_translated(official):
    (stage,) = translate(official)[0].stages
    assert (stage.iterations, stage.batch, stage.ema) == (400_000, 8, 0.99)
    assert stage.optimiser == OptimiserSettings(3e-4, "adam", (0.8, 0.95))
    assert (stage.schedule.warmup, stage.schedule.milestones) == (50, (100, 200))
    assert stage.schedule.gamma == 0.25
    # basicsr's eps is the square of epsilon
    assert stage.pixel == PixelSettings("charbonnier", 0.5, 1e-4, sharpen=False)
    perceptual = stage.perceptual
    assert perceptual is not None
    assert perceptual.layers == {"relu2_2": 0.2, "conv5_3": 2}
    assert perceptual.backbone == Path("vgg16-397923af.pth")
    assert (perceptual.weight, perceptual.style) == (0.7, 0.1)
    assert (perceptual.distance, perceptual.normalise) == ("frobenius", False)
    assert perceptual.sharpen
    assert stage.gan == GanSettings(
        "wgan-softplus", False, 0.2, sharpen=True,
        discriminator=DiscriminatorSettings("unet", 32, Path("experiments/net_d.pth")),
        # what torch takes where the file is silent
        optimiser=OptimiserSettings(5e-5, "adamw", (0.9, 0.999), weight_decay=0.01),
    )  # fmt: skip


def test_the_chain_is_translated(official):
    degradation = translate(official)[0].degradation
    assert (degradation.mode, degradation.sharpen, degradation.pool) == ("corrected", True, 96)
    assert not isinstance(degradation.chain, str)
    blur, resize, noise, jpeg, blur2, resize2, noise2, last = degradation.chain
    assert blur == BlurStep(
        1, 0.2, Families(0.5, 0, 0, 0.3, 0.2, 0), sigma=(0.3, 2), generalised_beta=(0.6, 3),
        plateau_beta=(0.9, 1.8),
    )  # fmt: skip
    assert blur2 == BlurStep(
        0.7, 0.3, Families(0, 1, 0, 0, 0, 0), sigma=(0.4, 1), generalised_beta=(0.7, 2),
        plateau_beta=(0.8, 1.7),
    )  # fmt: skip
    assert resize == ResizeStep(0.1, 0.8, 0.1, (0.2, 1.4))
    assert resize2 == ResizeStep(0.2, 0.5, 0.3, (0.4, 1.1), of="result")
    assert noise == NoiseStep(0.25, 0.75, sigma=(2, 20), scale=(0.1, 2), grey=0.3)
    assert noise2 == NoiseStep(0.75, 0.25, sigma=(3, 15), scale=(0.2, 1.5), grey=0.6)
    assert isinstance(last, EitherOrder) and last.probability == 0.5
    back, sinc = last.one
    assert back == ResizeStep(0, 0, 1, of="result")
    assert isinstance(sinc, BlurStep)
    assert (sinc.probability, sinc.sinc, sinc.skip_together) == (0.6, 1, False)
    assert sinc.large_cutoff == (math.pi / 3, math.pi)
    assert jpeg.quality == (40, 90) and last.other[0].quality == (50, 80)


def test_validation_is_translated(official):
    recipe, _ = translate(official)
    validation = recipe.validation
    assert validation is not None
    assert validation.sets == (ValidationSet(Path("Set14/GT"), "Set14", Path("Set14/LQ")),)
    assert (validation.every, validation.metrics, validation.border) == (2000, ("ssim",), 3)
    assert validation.images == 0
    assert recipe.saving.best_metric == "ssim"


def test_metrics_of_luma_and_without_reference_are_translated(write):
    recipe, _ = translate(write(
        val__metrics__ssim__test_y_channel=True,
        val__metrics__niqe={"type": "calculate_niqe", "crop_border": 3, "better": "lower"},
    ))  # fmt: skip
    assert recipe.validation and recipe.validation.metrics == ("ssim-y", "niqe")
    assert recipe.saving.best_metric == "ssim-y"


def test_only_differences_are_noted(official):
    _, notes = translate(official)
    assert [note.partition(":")[0] for note in notes] == ["degradation.mode"]


@pytest.mark.parametrize(("patch", "margin"), [(256, 72), (128, 136), (400, 0), (512, 0)])
def test_the_degraded_side_is_that_of_the_official_code(patch, margin, write):
    recipe, _ = translate(write(gt_size=patch, datasets__train__gt_size=patch))
    assert (recipe.data.patch, recipe.data.margin) == (patch, margin)


def test_a_translation_is_a_recipe_that_can_be_read(official, tmp_path):
    recipe, _ = translate(official)
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe))
    source = recipe.data.sources[0]
    absolute = replace(
        source, path=tmp_path / "datasets/mine", index=tmp_path / "datasets/mine.txt"
    )
    assert read_recipe(path).data.sources[0] == absolute
    assert read_recipe(path).degradation == recipe.degradation


PAPER = {
    "resize_prob": [0.2, 0.7, 0.1], "resize_range": [0.15, 1.5], "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30], "poisson_scale_range": [0.05, 3], "gray_noise_prob": 0.4,
    "jpeg_range": [30, 95], "second_blur_prob": 0.8, "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2], "gaussian_noise_prob2": 0.5, "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5], "gray_noise_prob2": 0.4, "jpeg_range2": [30, 95],
    "datasets__train__final_sinc_prob": 0.8,
} | {
    f"datasets__train__{name}{order}": value
    for order in ("", "2")
    for name, value in {
        "kernel_list": ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso",
                        "plateau_aniso"],
        "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03], "sinc_prob": 0.1,
        "blur_sigma": [0.2, 1.5] if order else [0.2, 3], "betag_range": [0.5, 4],
        "betap_range": [1, 2],
    }.items()
}  # fmt: skip
"""The degradation of the official option files, by the paper's section 4.1."""


def test_the_chain_of_the_paper_is_recognised(write):
    recipe, _ = translate(write(**PAPER, queue_size=180))
    assert recipe.degradation == DegradationRecipe()


def test_the_official_x4_files_give_the_recipe_that_comes_with_upscale(write):
    """But for paths and names, what the two official x4 files say, which this writes again."""
    shared = PAPER | {
        "scale": 4, "manual_seed": 0, "gt_size": 256, "queue_size": 180, "val": None,
        "datasets__train__gt_size": 256, "datasets__train__use_hflip": True,
        "datasets__train__use_rot": False, "datasets__train__num_worker_per_gpu": 5,
        "datasets__train__batch_size_per_gpu": 12, "datasets__train__meta_info": None,
        "datasets__val": None, "network_g": {"type": "RRDBNet", "num_feat": 64, "num_block": 23},
        "path": None, "logger": {"print_freq": 100, "save_checkpoint_freq": 5e3},
        "train__ema_decay": 0.999, "train__warmup_iter": -1,
        "train__scheduler": {"type": "MultiStepLR", "milestones": [400000], "gamma": 0.5},
    }  # fmt: skip
    adam = {"type": "Adam", "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.99]}
    net = translate(write(**shared, **{
        "model_type": "RealESRNetModel", "gt_usm": True, "train__total_iter": 1000000,
        "train__optim_g": adam | {"lr": 2e-4}, "train__optim_d": None,
        "train__pixel_opt": {"type": "L1Loss", "loss_weight": 1.0},
        "train__perceptual_opt": None, "train__gan_opt": None, "network_d": None,
    }))[0]  # fmt: skip
    gan = translate(write(**shared, **{
        "l1_gt_usm": True, "gan_gt_usm": False, "network_d__num_feat": 64,
        "train__total_iter": 400000, "train__optim_g": adam,
            "train__optim_d": adam | {"betas": [0.9, 0.99]},
        "train__pixel_opt": {"type": "L1Loss", "loss_weight": 1.0},
        "train__perceptual_opt": {
            "type": "PerceptualLoss", "vgg_type": "vgg19", "criterion": "l1",
            "perceptual_weight": 1.0, "style_weight": 0,
            "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1,
                              "conv5_4": 1}},
        "train__gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    }))[0]  # fmt: skip
    ours = read_recipe(bundled()["real-esrgan-x4"])
    for theirs, stage in zip((net, gan), ours.stages, strict=True):
        assert theirs.network == ours.network
        assert replace(theirs.data, sources=ours.data.sources) == ours.data
        assert theirs.degradation.settings(4) == ours.degradation.settings(4)
        assert theirs.degradation.pool == ours.degradation.pool
        assert (theirs.logging, theirs.saving) == (ours.logging, ours.saving)
        (found,) = theirs.stages
        schedule = found.schedule  # its only milestone is the end
        assert schedule.milestones in ((), (400_000,)) and schedule.warmup == 0
        found = replace(found, name=stage.name, schedule=stage.schedule)
        if found.gan and found.perceptual and stage.perceptual:
            assert found.gan.optimiser == found.optimiser
            backbone = replace(found.perceptual, backbone=stage.perceptual.backbone)
            found = replace(found, gan=replace(found.gan, optimiser=None), perceptual=backbone)
        assert found == stage


def test_stage_one_sharpens_if_the_file_does(write):
    for usm in (True, False):
        recipe, _ = translate(write(model_type="RealESRNetModel", gt_usm=usm))
        assert recipe.stages[0].pixel and recipe.stages[0].pixel.sharpen is usm
        assert recipe.degradation.sharpen is usm
        assert recipe.stages[0].gan is None


def test_pairs_are_not_degraded(write):
    recipe, notes = translate(write(
        datasets__train__type="RealESRGANPairedDataset", datasets__train__dataroot_lq="bad",
        high_order_degradation=False,
    ))  # fmt: skip
    assert recipe.data.sources == (
        Source(Path("datasets/mine"), Path("bad"), Path("datasets/mine.txt")),
    )
    assert recipe.degradation.chain == "none"
    assert "jpeg_range: has no counterpart and is ignored" in notes


def test_esrgan_is_relativistic_and_unsharpened(write):
    recipe, _ = translate(write(
        model_type="ESRGANModel", datasets__train__type="PairedImageDataset",
        datasets__train__dataroot_lq="bad", datasets__train__gt_size=128,
        datasets__train__io_backend={"type": "lmdb"},
        network_d={"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 64},
    ))  # fmt: skip
    (stage,) = recipe.stages
    assert recipe.data.sources[0].index is None  # an LMDB lists its own images
    assert stage.gan and stage.gan.relativistic
    assert stage.gan.discriminator.kind == "vgg"
    assert stage.pixel and stage.perceptual
    assert not (stage.pixel.sharpen or stage.perceptual.sharpen or stage.gan.sharpen)


def test_compact_networks_are_translated(write):
    recipe, _ = translate(write(
        scale=4, network_g={"type": "SRVGGNetCompact", "num_feat": 32, "upscale": 4}
    ))  # fmt: skip
    assert recipe.network == SRVGGSettings("srvgg", 4, 32, convolutions=16)


def test_missing_options_have_basicsrs_defaults(write):
    recipe, _ = translate(write(
        train__ema_decay=None, train__optim_g={"type": "Adam", "lr": 1e-4},
        train__scheduler={"type": "MultiStepLR", "milestones": [5]}, train__warmup_iter=-1,
        train__gan_opt={"type": "GANLoss", "gan_type": "hinge"}, train__pixel_opt=None,
        train__perceptual_opt=None, val=None,
    ))  # fmt: skip
    (stage,) = recipe.stages
    assert stage.ema == 0
    assert stage.optimiser == OptimiserSettings(1e-4, "adam", (0.9, 0.999), 0)
    assert (stage.schedule.gamma, stage.schedule.warmup) == (0.1, 0)
    assert stage.gan and stage.gan.weight == 1
    assert stage.pixel is None and stage.perceptual is None
    assert recipe.validation is None


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"train__scheduler": {"type": "LinearLR"}},
         "train.scheduler: is LinearLR; the learning rate stays constant"),
        ({"train__scheduler": {"type": "CosineAnnealingRestartLR", "periods": [5, 5],
                               "restart_weights": [1, 0.5]}},
         "train.scheduler.restart_weights: all periods start at the full rate"),
        ({"train__net_d_iters": 2},
         "train.net_d_iters: is 2; generator and discriminator alternate"),
        ({"train__net_d_init_iters": 9},
         "train.net_d_init_iters: is 9; generator and discriminator start together"),
        ({"datasets__train__blur_kernel_size": 15},
         "datasets.train.blur_kernel_size: is 15; kernels have sides of 7 to 21 pixels, as in the "
         "official code"),
        ({"datasets__train__filename_tmpl": "{}_lq"},
         "datasets.train.filename_tmpl: is {}_lq; LR images are found by the name of the "
         "HR image"),
        ({"val__metrics__fid": {"type": "calculate_fid"}},
         "val.metrics.fid: is calculate_fid and is ignored"),
        ({"datasets__val_2": {"type": "SingleImageDataset", "dataroot_lq": "x"}},
         "datasets.val_2: is SingleImageDataset and is ignored"),
        ({"train__ldl_opt": {"type": "L1Loss"}},
         "train.ldl_opt.type: has no counterpart and is ignored"),
        ({"path__resume_state": "x.state"},
         "path.resume_state: has no counterpart and is ignored"),
        ({"logger__wandb__project": "mine"},
         "logger.wandb.project: has no counterpart and is ignored"),
        ({"datasets__train__meen": [0.5]},
         "datasets.train.meen: has no counterpart and is ignored"),
    ],
)  # fmt: skip
def test_ignored_options_are_noted(write, changes, note):
    assert note in translate(write(**changes))[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "SwinIRModel"}, "model_type: is SwinIRModel; only "
         "RealESRNetModel, SRModel, RealESRGANModel, ESRGANModel, SRGANModel can be "
         "translated"),
        ({"model_type": ["a"]}, "model_type: is ['a']; only RealESRNetModel"),
        ({"network_g__type": "MSRResNet"}, "network_g.type: is MSRResNet; only RRDBNet, "
         "SRVGGNetCompact, RCAN can be translated"),
        ({"network_g__num_in_ch": 1}, "network_g.num_in_ch: is 1; only 3 can be translated"),
        ({"network_g__scale": 4}, "network_g.scale: is 4; only 2 can be translated"),
        ({"network_d__type": "MultiScaleDiscriminator"}, "network_d.type: is MultiScale"),
        ({"network_d__skip_connection": False}, "network_d.skip_connection: is False; only True"),
        ({"train__optim_g__type": "SGD"}, "train.optim_g.type: is SGD; only Adam, "
         "AdamW can be translated"),
        ({"train__pixel_opt__type": "MSELoss"}, "train.pixel_opt.type: is MSELoss; only L1Loss"),
        ({"train__pixel_opt__reduction": "sum"}, "train.pixel_opt.reduction: is sum; only mean"),
        ({"train__pixel_opt__eps": "small"}, "train.pixel_opt.eps: must be a number, not small"),
        ({"train__perceptual_opt__range_norm": True}, "train.perceptual_opt.range_norm: is True"),
        ({"train__perceptual_opt__vgg_type": "vgg19_bn"}, "train.perceptual_opt.vgg_type: is"),
        ({"train__gan_opt": None}, "train.gan_opt.gan_type: lacks gan_type; only vanilla"),
        ({"train__gan_opt__real_label_val": 0.9}, "train.gan_opt.real_label_val: is 0.9; only 1"),
        ({"gaussian_noise_prob": "half"}, "gaussian_noise_prob: must be a number, not half"),
        ({"resize_prob": 0.5}, "resize_prob: must be a list"),
        ({"train__total_iter": "many"}, 'stages.0.iterations: must be a whole number, not "many"'),
        ({"train__optim_g__lr": None}, "stages.0.optimiser: lacks learning_rate"),
        ({"datasets__train__kernel_list": ["iso", "round"], "datasets__train__kernel_prob": [1, 1]},
         "degradation.chain.0.families.round: there is no such key"),
        ({"queue_size": 4}, "degradation.pool: 4 pairs are fewer than the batch of gan, 8"),
        ({"datasets__train__dataroot_gt": None}, "data.sources.0: lacks path"),
    ],
)  # fmt: skip
def test_options_that_upscale_lacks_raise_an_error(write, changes, message):
    path = write(**changes)
    with pytest.raises(TrainingError) as caught:
        translate(path)
    assert "\n" not in str(caught.value)
    where, _, what = str(caught.value).partition(": ")
    assert where.startswith(f"{path}:")
    assert what.startswith(message)


def test_an_error_names_the_line_of_the_option_file(official):
    official.write_text(GAN.replace("!!float 3e-4", "fast"))
    line = GAN.splitlines().index("    lr: !!float 3e-4") + 1
    with pytest.raises(TrainingError) as caught:
        translate(official)
    assert str(caught.value) == (
        f'{official}:{line}: stages.0.optimiser.learning_rate: must be a number, not "fast"'
    )


def test_a_recipe_is_no_option_file():
    path = bundled()["tiny-x4"]
    with pytest.raises(TrainingError, match=r"tiny-x4.yaml:4: model_type: lacks model_type"):
        translate(path)


def test_a_cosine_is_that_of_the_official_file(tmp_path):
    """As basicsr's CosineAnnealingRestartLR, which ends at a learning rate."""
    values = yaml.safe_load(GAN)
    rate = values["train"]["optim_g"]["lr"]
    values["train"]["scheduler"] = {
        "type": "CosineAnnealingRestartLR",
        "periods": [250, 250],
        "restart_weights": [1, 1],
        "eta_min": rate / 1000,
    }
    (tmp_path / "cosine.yml").write_text(yaml.safe_dump(values))
    recipe, notes = translate(tmp_path / "cosine.yml")
    schedule = recipe.stages[0].schedule
    assert (schedule.kind, schedule.periods) == ("cosine", (250, 250))
    assert schedule.minimum == pytest.approx(1e-3)
    assert not [note for note in notes if "scheduler" in note]


def test_an_option_file_of_neosr_is_translated_and_its_other_keys_are_named(data):
    recipe, notes = translate(data / "recipes/neosr.toml")
    (stage,) = recipe.stages
    assert recipe.network == SPANSettings(scale=4)
    assert (recipe.name, recipe.seed) == ("small_span_otf", 1024)
    assert recipe.data.patch == 256  # 64 pixels of an LR image
    assert recipe.data.mix == MixSettings(mixup=0.1, cutmix=0.1, cutblur=0.2)
    assert (stage.batch, stage.accumulate, stage.iterations) == (8, 2, 1_000_000)
    adan = OptimiserSettings(1e-3, "adan", (0.98, 0.92, 0.99), weight_decay=0.01, clip=1)
    assert stage.optimiser == adan and stage.schedule.warmup == 1600
    assert stage.gan.optimiser == OptimiserSettings(
        1e-4, "adamw", (0.9, 0.999), weight_decay=0.01, clip=1
    )
    assert (stage.gan.kind, stage.gan.weight, stage.pixel) == ("vanilla", 0.3, None)
    assert [(loss.kind, loss.weight) for loss in stage.more] == [("ms-ssim", 1), ("ldl", 0.5)]
    blur, resize, noise, jpeg, second, *_ = recipe.degradation.chain
    assert (blur.families.iso, second.probability, jpeg.quality) == (0.6, 0.4, (40, 95))
    assert (resize.up, resize.factors, noise.sigma) == (0.3, (0.5, 1.5), (0, 2))
    (validation,) = recipe.validation.sets
    assert (validation.high, validation.low) == (Path("val/gt"), Path("val/lq"))
    named = {note.partition(":")[0] for note in notes}
    assert named == {
        "datasets.train.augmentation",  # resizemix
        "datasets.train.patch_size",
        "train.optim_g.type",
        "train.consistency_opt",
        "network_d.type",
        "train.wavelet_guided",
        "val.metrics.topiq",
        "degradation.mode",
        "degradation.sharpen",
        "degradations.blur_kernel_size",
    }


def test_an_option_file_of_trainner_redux_is_translated_and_its_other_keys_are_named(data):
    recipe, notes = translate(data / "recipes/trainner-redux.yml")
    (stage,) = recipe.stages
    assert recipe.network == SRVGGSettings(scale=4, features=64, convolutions=8)
    assert [source.path for source in recipe.data.sources] == [Path("a/hr"), Path("b/hr")]
    assert (recipe.data.patch, recipe.data.mix) == (192, MixSettings(mixup=0.3))
    assert recipe.computing.precision == "fp16"
    assert stage.optimiser == OptimiserSettings(1e-4, "adamw")
    assert stage.schedule.milestones == (100, 200)
    assert (stage.pixel.kind, stage.pixel.sharpen) == ("charbonnier", False)
    assert [(loss.kind, loss.weight) for loss in stage.more] == [("ms-ssim", 0.5)]
    assert (stage.perceptual.weight, stage.gan.weight, stage.dists) == (0.01, 0.1, None)
    blur, resize, _, jpeg, second, *_, last = recipe.degradation.chain
    assert (blur.probability, blur.sizes, second.probability) == (0.3, (5, 17), 0.1)
    assert resize.kinds == ("bilinear", "bicubic", "nearest", "lanczos")
    assert jpeg.probability == 0.9
    assert last.one[0].kinds == ("bilinear", "bicubic")
    assert [each.low for each in recipe.validation.sets] == [Path("v/lr"), Path("w/lr")]
    named = {note.partition(":")[0] for note in notes}
    assert named == {
        "train.moa_augs",
        "train.losses.2",
        "train.losses.3",
        "lq_usm",
        "thicklines_prob",
        "resize_mode_prob",
        "train.ema_power",
        "degradation.mode",
        "degradation.sharpen",
    }


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("neosr.toml", 'type = "span"', 'type = "dat"', "network_g.type: is dat; only compact"),
        ("neosr.toml", "adan_sf", "soap_sf", "train.optim_g.type: is soap_sf; only"),
        ("neosr.toml", 'type = "otf"\nd', 'type = "odd"\nd', "datasets.train.type: is odd; only"),
        ("neosr.toml", "scale = 4", "scale = 4 4", "is not TOML"),
        ("neosr.toml", '"bce"', '"odd"', "train.gan_opt.gan_type: is odd; only"),
        ("trainner-redux.yml", "type: ultracompact", "type: dat", "network_g.type: is dat; only"),
    ],
)  # fmt: skip
def test_what_other_trainers_have_alone_is_refused_in_one_line(
    data, tmp_path, name, old, new, expected
):
    text = (data / "recipes" / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(TrainingError) as raised:
        translate(tmp_path / name)
    message = str(raised.value)
    assert f"{name}: " in message and expected in message and "\n" not in message


@pytest.mark.parametrize(
    ("lines", "network"),
    [
        ("type: realplksr", RealPLKSRSettings()),
        (
            "type: realplksr_tiny\n  dim: 48\n  upsampler: pixelshuffle",
            RealPLKSRSettings(features=48, blocks=12, kernel=13, attention=False),
        ),
        ("type: esrgan\n  use_pixel_unshuffle: true", RRDBNetSettings()),
        ("type: esrgan_lite", RRDBNetSettings(features=32, blocks=12)),
        ("type: span", SPANSettings(features=52)),
        ("type: span_s\n  norm: true", SPANSettings(features=48, normalised=True)),
        ("type: span\n  feature_channels: 16\n  norm: false", SPANSettings(features=16)),
    ],
)  # fmt: skip
def test_other_networks_of_other_trainers_are_translated(data, tmp_path, lines, network):
    text = (data / "recipes/trainner-redux.yml").read_text()
    (tmp_path / "a.yml").write_text(text.replace("type: ultracompact", lines))
    recipe, notes = translate(tmp_path / "a.yml")
    assert recipe.network == network
    assert not [note for note in notes if note.startswith("network_g")]


def test_a_realplksr_that_normalises_groups_is_noted(data, tmp_path):
    text = (data / "recipes/neosr.toml").read_text()
    (tmp_path / "a.toml").write_text(text.replace('type = "span"', 'type = "realplksr"'))
    recipe, notes = translate(tmp_path / "a.toml")
    assert recipe.network == RealPLKSRSettings()
    assert any(note.startswith("network_g: normalises groups") for note in notes)


@pytest.mark.parametrize(
    ("name", "old", "new", "clip", "note"),
    [
        ("trainner-redux.yml", "grad_clip: false", "grad_clip: true", 100, ""),
        ("trainner-redux.yml", "grad_clip: false",
         "grad_clip: true\n  grad_clip_max_norm: 2", 2, ""),
        ("trainner-redux.yml", "val_enabled: true", "val_enabled: false", 0,
         "datasets.val: is left out, because val.val_enabled is false"),
        ("neosr.toml", "[train]\n", "[train]\ngrad_clip = false\n", 0, ""),
        ("neosr.toml", "[train.optim_d]\n", "[train.optim_d]\nwarmup_steps = 7\n", 1,
         "train.optim_d.warmup_steps: is 7; that of the generator is used"),
        ("neosr.toml", "[train]\n", "[path]\n[train]\n", 1, ""),
    ],
)  # fmt: skip
def test_clipping_warm_up_and_validation_of_other_trainers_are_translated_or_named(
    data, tmp_path, name, old, new, clip, note
):
    text = (data / "recipes" / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    recipe, notes = translate(tmp_path / name)
    (stage,) = recipe.stages
    assert stage.optimiser.clip == clip
    assert stage.gan is None or stage.gan.optimiser.clip == clip
    known = set(translate(data / "recipes" / name)[1])
    new_notes = [each for each in notes if each not in known]
    assert new_notes == ([note] if note else [])
    if "left out" in note:
        assert recipe.validation is None
