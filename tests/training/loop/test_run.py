"""Whole runs in one process: how they compute, what they tell, and how they end early."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from upscale_training.backbone_files import load_backbone
from upscale_training.data.patches import PatchDataset
from upscale_training.data.pixels import read_rgb
from upscale_training.loop import Exported, Logged, Note, Saved, Stepped, train
from upscale_training.loop import stage as stage_module
from upscale_training.loop.distributed import Processes
from upscale_training.loop.networks import make_networks
from upscale_training.loop.pairs import PairLoader
from upscale_training.loop.state import saved_states
from upscale_training.loop.timing import Stopwatch
from upscale_training.networks.backbone import vgg_layers
from upscale_training.recipe import (
    ComputingSettings,
    DataSettings,
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    OptimiserSettings,
    PerceptualSettings,
    PixelSettings,
    RCANSettings,
    RealCUGANSettings,
    RealPLKSRSettings,
    RRDBNetSettings,
    SavingSettings,
    Source,
    SPANSettings,
    SRVGGSettings,
    Stage,
)

from tests.training.loop.runs import check_same, collected, longer, one_stage, tiny
from upscale import Upscaler
from upscale.checkpoints import read_metadata, read_state_dict
from upscale.errors import TrainingError, UsageError

ADAM = OptimiserSettings(1e-3)


def gan(**settings) -> Stage:
    gan = GanSettings(discriminator=DiscriminatorSettings(features=4))
    return Stage("gan", 3, ADAM, batch=2, ema=0.9, gan=gan, **settings)


def weights(folder, name: str) -> dict:
    return read_state_dict(folder / f"tiny-{name}.safetensors")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_weights_of_full(images, tmp_path, precision):
    for name in ("fp32", precision):
        computing = ComputingSettings(precision=name)
        recipe = one_stage(images, gan(), computing=computing)
        events = collected(recipe, tmp_path / name)
        losses = [event.losses for event in events if isinstance(event, Logged)]
        assert all(math.isfinite(value) for found in losses for value in found.values())
    exact, rounded = weights(tmp_path / "fp32", "gan"), weights(tmp_path / precision, "gan")
    for key, value in exact.items():
        assert rounded[key].dtype == torch.float32
        torch.testing.assert_close(rounded[key], value, rtol=0, atol=3e-3)
    assert any(not torch.equal(rounded[key], value) for key, value in exact.items())
    scale = saved_states(tmp_path / precision / "states" / "gan")[-1].common()["judge"]["scaler"]
    assert bool(scale) == (precision == "fp16")


@pytest.mark.parametrize(
    "network",
    [
        RRDBNetSettings(features=4, blocks=2, growth=2),
        SRVGGSettings(features=4, convolutions=5),
        SPANSettings(features=4),
        RCANSettings(features=4, groups=2, blocks=1, reduction=2),
        RealCUGANSettings(features=8),
        RealPLKSRSettings(features=4, blocks=2, kernel=3, partial=2),
    ],
)
def test_activation_checkpointing_changes_no_weight(images, tmp_path, network):
    for again in (False, True):
        computing = ComputingSettings(checkpoint_activations=again)
        recipe = one_stage(images, computing=computing, network=network)
        train(recipe, tmp_path / str(again), device="cpu")
    check_same(weights(tmp_path / "True", "psnr"), weights(tmp_path / "False", "psnr"))


@pytest.mark.slow
def test_memory_layouts_give_nearly_the_same_weights(images, tmp_path):
    for last in (False, True):
        computing = ComputingSettings(channels_last=last)
        train(one_stage(images, gan(), computing=computing), tmp_path / str(last), device="cpu")
    one, other = (weights(tmp_path / name, "gan") for name in ("True", "False"))
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_network_gives_nearly_the_same_weights_under_the_same_names(images, tmp_path):
    for compiled in (False, True):
        computing = ComputingSettings(compile=compiled)
        network = SRVGGSettings(features=4, convolutions=1)
        recipe = one_stage(images, computing=computing, network=network)
        train(recipe, tmp_path / str(compiled), device="cpu")
    one, other = (weights(tmp_path / name, "psnr") for name in ("True", "False"))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=2e-4)


def test_pairs_of_files_are_neither_degraded_nor_pooled(images, tmp_path):
    low = tmp_path / "low"
    from upscale_training.data.pixels import write_png

    for file in images.iterdir():
        write_png(read_rgb(file)[::4, ::4].copy(), low / file.name)
    recipe = one_stage(
        images,
        data=DataSettings((Source(images, low),), patch=16, workers=0, flips=False),
        degradation=DegradationRecipe(chain="none", pool=7),
    )
    processes = Processes("cpu", "fp32")
    dataset = PatchDataset(recipe.data, 0, 4)
    pair = PairLoader(
        recipe, recipe.stages[0], dataset, processes, Stopwatch(processes.device)
    ).take()
    torch.testing.assert_close(pair.lr, pair.hr[:, :, ::4, ::4])


def test_the_ground_truth_is_sharpened_for_losses_only_and_not_in_the_pool(
    images,
):
    from upscale_training.degradation import sharpen

    processes = Processes("cpu", "fp32")
    recipe = one_stage(images, degradation=DegradationRecipe(pool=3))
    plain = replace(recipe.stages[0], pixel=PixelSettings(sharpen=False))
    dataset = PatchDataset(recipe.data, 0, 4)
    watch = Stopwatch(processes.device)
    pair = PairLoader(recipe, recipe.stages[0], dataset, processes, watch).take()
    torch.testing.assert_close(pair.target(True), sharpen(pair.hr))
    assert pair.target(False) is pair.hr
    levels = pair.hr * 255
    torch.testing.assert_close(levels, levels.round())
    assert PairLoader(recipe, plain, dataset, processes, watch).take().sharpened is None


def test_the_pool_is_warmed_up_before_the_first_iteration(images):
    processes = Processes("cpu", "fp32")
    recipe = one_stage(images, degradation=DegradationRecipe(pool=5))
    dataset = PatchDataset(recipe.data, 0, 4)
    pairs = PairLoader(recipe, recipe.stages[0], dataset, processes, Stopwatch(processes.device))
    pairs.take()
    assert pairs.state_dict()["taken"] == 4, "three batches of two fill it, the fourth is exchanged"


def test_workers_do_not_change_the_weights(images, tmp_path):
    for workers in (0, 2):
        recipe = one_stage(images)
        recipe = replace(recipe, data=replace(recipe.data, workers=workers))
        train(recipe, tmp_path / str(workers), device="cpu")
    check_same(weights(tmp_path / "0", "psnr"), weights(tmp_path / "2", "psnr"))


@pytest.mark.slow
def test_killed_workers_are_restarted_and_change_nothing(images, tmp_path):
    plain = longer(one_stage(images), 0, 12)
    recipe = replace(plain, data=replace(plain.data, workers=2))
    killed: list[int] = []

    def kill_readers(event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child.pid)

    train(recipe, tmp_path / "disturbed", device="cpu", events=kill_readers)
    assert len(killed) == 2
    train(plain, tmp_path / "plain", device="cpu")
    check_same(weights(tmp_path / "disturbed", "psnr"), weights(tmp_path / "plain", "psnr"))


def test_perceptual_and_style_terms_are_those_of_the_backbone_that_the_recipe_names(
    images, tmp_path
):
    backbone, settings = small_backbone(tmp_path / "vgg.pth"), {"conv1_2": 0.5, "relu2_1": 2.0}
    perceptual = PerceptualSettings(backbone, settings, weight=3.0, style=0.25, sharpen=False)
    stage = Stage("features", 1, ADAM, batch=2, pixel=None, perceptual=perceptual)
    recipe = one_stage(images, stage)
    events = collected(recipe, tmp_path / "run")
    losses = next(event.losses for event in events if isinstance(event, Logged))
    assert losses.keys() == {"perceptual", "style", "shift", "contrast"}
    processes = Processes("cpu", "fp32")
    networks, _ = make_networks(recipe, 0, processes, None)
    dataset = PatchDataset(recipe.data, 0, 4)
    pair = PairLoader(recipe, stage, dataset, processes, Stopwatch(processes.device)).take()
    with torch.no_grad():
        result = networks.average.network(pair.lr)
        ours, theirs = (load_backbone(backbone, settings)(each) for each in (result, pair.hr))
        expected = sum(w * (ours[key] - theirs[key]).abs().mean() for key, w in settings.items())
    assert losses["perceptual"] == pytest.approx(3.0 * expected.item(), rel=1e-4)
    assert 0 < losses["style"] < losses["perceptual"]


def small_backbone(path: Path) -> Path:
    """A file with random weights as torchvision's VGG19 has them; deep layers are only named."""
    torch.manual_seed(0)
    state = {}
    inputs = 3
    for place, layer in enumerate(vgg_layers("vgg19")):
        if layer.startswith("conv"):
            width = {"1": 64, "2": 128}.get(layer[4], 1)
            state[f"features.{place}.weight"] = torch.randn(width, inputs, 3, 3) * 0.05
            state[f"features.{place}.bias"] = torch.randn(width) * 0.05
            inputs = width
    torch.save(state, path)
    return path


def test_the_log_has_a_line_per_interval_with_shares_of_time(images, tmp_path):
    recipe = tiny(images)
    collected(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    events = [(line["event"], line.get("stage"), line.get("step")) for line in lines]
    assert events == [
        ("baseline", None, None),
        *(("step", "psnr", 2), ("step", "psnr", 4), ("validation", "psnr", 4)),
        *(("step", "psnr", 6), ("validation", "psnr", 6)),
        *(("step", "gan", 2), ("step", "gan", 4), ("validation", "gan", 4)),
        *(("step", "gan", 5), ("validation", "gan", 5)),
    ]
    last = lines[-2]
    assert set(last["losses"]) == {
        *("pixel", "gan", "real", "fake", "mean_real", "mean_fake", "shift", "contrast"),
    }
    assert set(last["shares"]) >= {"data", "degradation", "generator", "discriminator"}
    assert 0 < sum(last["shares"].values()) <= 1
    assert last["seconds_left"] == 0
    assert last["learning_rate"] == 1e-3


def test_the_metadata_of_an_exported_file_contains_no_folders(images, tmp_path):
    recipe = replace(tiny(images), licence="CC0-1.0", notes="for a test")
    events = collected(recipe, tmp_path / "run")
    exported = [event.path for event in events if isinstance(event, Exported)]
    assert exported == [tmp_path / "run" / f"tiny-{name}.safetensors" for name in ("psnr", "gan")]
    metadata = read_metadata(exported[1])
    assert metadata["name"] == "tiny-gan"
    assert metadata["licence"] == "CC0-1.0"
    assert metadata["notes"] == "for a test"
    assert metadata["scale"] == "4"
    assert metadata["steps"] == "5"
    assert metadata["stage"] == "gan"
    assert metadata["architecture"].startswith("RRDBNet x4, 2 blocks")
    assert "name: tiny" in metadata["recipe"]
    assert str(images) not in metadata["recipe"]
    figures = json.loads(metadata["figures"])["validation"]
    assert figures.keys() == {"psnr", "ssim"}
    assert json.loads(metadata["figures of bicubic"])["validation"]["psnr"] > figures["psnr"]


def test_the_exported_file_has_the_recipes_precision_and_states_have_fp32(images, tmp_path):
    recipe = one_stage(images, saving=SavingSettings(export="fp16"))
    train(recipe, tmp_path / "run", device="cpu")
    exported = weights(tmp_path / "run", "psnr")
    kept = read_state_dict(saved_states(tmp_path / "run" / "states" / "psnr")[-1].weights)
    for key, value in kept.items():
        assert value.dtype == torch.float32
        assert torch.equal(exported[key], value.half())
    full = replace(recipe, saving=SavingSettings(export="fp32"))
    train(full, tmp_path / "run", device="cpu")
    check_same(weights(tmp_path / "run", "psnr"), kept)
    small = read_rgb(images / "0.png")
    assert Upscaler(tmp_path / "run" / "tiny-psnr.safetensors").upscale(small).shape == (
        192,
        192,
        3,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_saves_a_state_from_which_the_run_resumes_exactly(images, tmp_path, name):
    recipe = one_stage(images, gan(), degradation=DegradationRecipe(pool=3))
    recipe = longer(recipe, 0, 5)
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def interrupt(event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            os.kill(os.getpid(), number)

    signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu", events=interrupt)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert [state.info.step for state in saved_states(tmp_path / "run" / "states" / "gan")] == [2]
    train(recipe, tmp_path / "run", device="cpu")
    train(recipe, tmp_path / "at once", device="cpu")
    check_same(weights(tmp_path / "run", "gan"), weights(tmp_path / "at once", "gan"))


@pytest.fixture
def heeding_interrupts():
    """Processes that were started in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
def test_an_interrupted_validation_is_done_after_resuming(images, tmp_path, monkeypatch):
    recipe = tiny(images)
    validate = stage_module.Validation.validate

    def interrupted(self, network, stop):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(self, network, stop)

    monkeypatch.setattr(stage_module.Validation, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", device="cpu")
    monkeypatch.undo()
    train(recipe, tmp_path / "run", device="cpu")
    train(recipe, tmp_path / "at once", device="cpu")

    def lines(name: str) -> list:
        text = (tmp_path / name / "log.jsonl").read_text()
        found = [json.loads(line) for line in text.splitlines()]
        return [(line["event"], line.get("step"), line.get("losses")) for line in found]

    assert lines("run") == lines("at once")


@pytest.mark.usefixtures("heeding_interrupts")
def test_a_last_validation_that_was_interrupted_is_done_after_resuming(
    images, tmp_path, monkeypatch
):
    recipe = tiny(images)
    recipe = replace(recipe, stages=recipe.stages[:1])
    validate = stage_module.Validation.validate

    def interrupted(self, network, stop):
        if len(saved_states(tmp_path / "run" / "states" / "psnr")) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return validate(self, network, stop)

    monkeypatch.setattr(stage_module.Validation, "validate", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu")
    monkeypatch.undo()
    newest = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    assert (newest.info.step, newest.info.validated_step) == (6, 4)
    train(recipe, tmp_path / "run", device="cpu")
    newest = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    assert (newest.info.step, newest.info.validated_step) == (6, 6)
    train(recipe, tmp_path / "at once", device="cpu")
    one, other = (
        read_metadata(tmp_path / name / "tiny-psnr.safetensors") for name in ("run", "at once")
    )
    assert one == other
    check_same(weights(tmp_path / "run", "psnr"), weights(tmp_path / "at once", "psnr"))


def test_a_folder_with_other_files_is_unchanged(images, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("mine")
    with pytest.raises(TrainingError, match="contains files of something else"):
        train(one_stage(images), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "log.jsonl").read_text() == "mine"
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_it_runs_outside_the_main_thread(images, tmp_path):
    errors: list[BaseException] = []

    def work() -> None:
        try:
            train(one_stage(images), tmp_path / "run", device="cpu")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(
    images, tmp_path, monkeypatch
):
    iterate = stage_module.StageRun._iterate

    def poison(self) -> None:
        iterate(self)
        if self._done == 2:
            next(self._networks.generator.network.parameters()).data[0] = float("nan")

    recipe = longer(one_stage(images), 0, 6)
    recipe = replace(recipe, saving=replace(recipe.saving, every=1))
    monkeypatch.setattr(stage_module.StageRun, "_iterate", poison)
    with pytest.raises(
        TrainingError, match="psnr: weights are not finite at iteration 2"
    ) as caught:
        train(recipe, tmp_path / "run", device="cpu")
    assert "learning_rate" in str(caught.value)
    assert "00000001/ema.safetensors as start" in str(caught.value).replace("\\", "/")
    assert "\n" not in str(caught.value)
    assert [s.info.step for s in saved_states(tmp_path / "run" / "states" / "psnr")] == [1]


def test_diverging_losses_stop_the_run(images, tmp_path):
    stage = Stage("psnr", 40, OptimiserSettings(1e3), batch=1)
    with pytest.raises(TrainingError, match=r"the pixel loss is .* at iteration"):
        train(one_stage(images, stage), tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_running_out_of_memory_names_the_settings_to_reduce(images, tmp_path, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore lines")

    monkeypatch.setattr(stage_module.StageRun, "_iterate", exhausted)
    with pytest.raises(TrainingError) as caught:
        train(one_stage(images), tmp_path / "run", device="cpu")
    for word in ("batch 2", "patch 16", "accumulate", "checkpoint_activations"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_training_image_is_named_and_replaced(images, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    recipe = longer(one_stage(folder), 0, 5)
    events = collected(recipe, tmp_path / "run")
    assert any("1.png" in event.text for event in events if isinstance(event, Note))
    assert any(isinstance(event, Saved) for event in events)


def test_an_unknown_stage_raises_an_error(images, tmp_path):
    with pytest.raises(UsageError, match="--stage nonsense: the recipe has psnr, gan"):
        train(tiny(images), tmp_path / "run", device="cpu", stage="nonsense")
