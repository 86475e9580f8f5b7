"""Runs that resume with other settings, other images, other processes, or in another place."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.loop import Changed, Logged, Note, StageStarted, train
from upscale_training.loop.state import saved_states
from upscale_training.recipe import (
    DataSettings,
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    OptimiserSettings,
    PerceptualSettings,
    PixelSettings,
    RRDBNetSettings,
    SavingSettings,
    Source,
    SPANSettings,
    SRVGGSettings,
    Stage,
    ValidationSet,
    ValidationSettings,
)

from tests.training.loop.runs import check_same, collected, longer, make_images, one_stage, tiny
from upscale import Upscaler
from upscale.checkpoints import read_metadata, read_state_dict
from upscale.errors import TrainingError, UpscaleError

GAN = GanSettings(discriminator=DiscriminatorSettings(features=4))


def gan_stage(**settings) -> Stage:
    stage = Stage("gan", 2, OptimiserSettings(1e-3), batch=2, ema=0.9, gan=GAN)
    return replace(stage, **settings)


def notes(events) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def test_files_of_later_stages_are_read_before_the_first_iteration(images, tmp_path):
    recipe = tiny(images, validation=None)
    late = PerceptualSettings(tmp_path / "vgg.pth")
    recipe = replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], perceptual=late)))
    message = r"^stages\.1\.perceptual\.backbone: .*vgg\.pth: .*\(--set stages\.1\.perceptual"
    with pytest.raises(UpscaleError, match=message):
        train(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "states").exists()


@pytest.mark.parametrize("broken", ["data", "validation", "start"])
def test_starting_over_removes_no_state_before_all_files_are_found(images, tmp_path, broken):
    recipe = one_stage(images)
    train(recipe, tmp_path / "run", device="cpu")
    nowhere = tmp_path / "nowhere"
    changes = {
        "data": {"data": DataSettings((Source(nowhere),), patch=16, margin=4, workers=0)},
        "validation": {"validation": ValidationSettings((ValidationSet(nowhere),))},
        "start": {"start": nowhere / "x.pth"},
    }
    with pytest.raises(UpscaleError, match=f"^{broken}.*nowhere"):
        train(replace(recipe, **changes[broken]), tmp_path / "run", device="cpu", resume=False)
    assert saved_states(tmp_path / "run" / "states" / "psnr")


def test_starting_a_stage_over_keeps_its_states_if_the_stage_before_is_missing(images, tmp_path):
    recipe = tiny(images, validation=None)
    train(recipe, tmp_path / "run", device="cpu")
    shutil.rmtree(tmp_path / "run" / "states" / "psnr")
    with pytest.raises(TrainingError, match="gan starts from the weights of psnr"):
        train(recipe, tmp_path / "run", device="cpu", stage="gan", resume=False)
    assert saved_states(tmp_path / "run" / "states" / "gan")


def test_a_moved_project_resumes_as_if_it_had_stayed(tmp_path):
    for name in ("a", "b"):
        make_images(tmp_path / name / "photos")
        train(one_stage(tmp_path / name / "photos"), tmp_path / name / "run", device="cpu")
    (tmp_path / "a").rename(tmp_path / "moved")
    for name in ("moved", "b"):
        recipe = longer(one_stage(tmp_path / name / "photos"), 0, 5)
        events = collected(recipe, tmp_path / name / "run")
        assert StageStarted("psnr", 3, 5) in events
        assert not notes(events)
    check_same(*(
        read_state_dict(tmp_path / name / "run" / "tiny-psnr.safetensors")
        for name in ("moved", "b")
    ))  # fmt: skip


def test_added_images_are_reported_and_other_images_refused(tmp_path):
    folder = make_images(tmp_path / "photos")
    train(one_stage(folder), tmp_path / "run", device="cpu")
    shutil.copy(folder / "0.png", folder / "new.png")
    events = collected(longer(one_stage(folder), 0, 4), tmp_path / "run")
    assert any("data.sources.0: the images have changed, from 5 to 6" in n for n in notes(events))
    assert not notes(collected(longer(one_stage(folder), 0, 5), tmp_path / "run"))
    other = make_images(tmp_path / "other")
    with pytest.raises(TrainingError, match=r"data\.sources\.0\.path was .*--allow-changes"):
        train(longer(one_stage(other), 0, 6), tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    "changed",
    [
        {"stage": {"optimiser": OptimiserSettings(5e-5, betas=(0.8, 0.9))}},
        {"stage": {"batch": 3, "accumulate": 2}},
        {"stage": {"pixel": PixelSettings("charbonnier"), "gan": None}},
        {"degradation": DegradationRecipe("classical", pool=4)},
        {"computing": "bf16"},
    ],
    ids=["optimiser", "batch", "losses", "degradation", "precision"],
)
def test_other_settings_resume_on_request_and_are_logged_and_exported(images, tmp_path, changed):
    first = one_stage(images, gan_stage())
    train(first, tmp_path / "run", device="cpu")
    stage = gan_stage(**changed.get("stage", {}), iterations=4)
    other = replace(first, stages=(stage,))
    if "degradation" in changed:
        other = replace(other, degradation=changed["degradation"])
    if "computing" in changed:
        other = replace(other, computing=replace(first.computing, precision="bf16"))
    with pytest.raises(TrainingError, match="--allow-changes"):
        train(other, tmp_path / "run", device="cpu")
    events = collected(other, tmp_path / "run", allow_changes=True)
    (event,) = [each for each in events if isinstance(each, Changed)]
    assert event.step == 2
    assert " was " in event.changes[0]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [each["changes"] for each in log if each["event"] == "changed"] == [list(event.changes)]
    metadata = read_metadata(tmp_path / "run" / "tiny-gan.safetensors")
    assert f"after 2 iterations: {event.changes[0]}" in metadata["changes"]
    assert StageStarted("gan", 4, 5) in collected(longer(other, 0, 5), tmp_path / "run")


def test_the_changed_learning_rate_and_decays_are_those_of_the_optimiser(images, tmp_path):
    train(one_stage(images), tmp_path / "run", device="cpu")
    stage = Stage("psnr", 4, OptimiserSettings(5e-5, betas=(0.5, 0.6)), batch=2, ema=0.9)
    train(one_stage(images, stage), tmp_path / "run", device="cpu", allow_changes=True)
    saved = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    (group,) = saved.common()["generator"]["optimiser"]["param_groups"]
    assert (group["lr"], group["betas"]) == (5e-5, (0.5, 0.6))


def test_a_larger_batch_continues_after_the_samples_that_were_seen(images, tmp_path):
    train(one_stage(images), tmp_path / "run", device="cpu")
    stage = Stage("psnr", 4, OptimiserSettings(1e-3), batch=4, ema=0.9)
    train(one_stage(images, stage), tmp_path / "run", device="cpu", allow_changes=True)
    pairs = saved_states(tmp_path / "run" / "states" / "psnr")[-1].own(0)["pairs"]
    assert pairs["samples"] == 8 + 4  # six samples end within the second batch of four


def test_another_network_is_never_allowed(images, tmp_path):
    recipe = one_stage(images)
    train(recipe, tmp_path / "run", device="cpu")
    wider = replace(longer(recipe, 0, 4), network=replace(recipe.network, features=8))
    with pytest.raises(TrainingError, match=r"features was 4 and is 8; the saved networks"):
        train(wider, tmp_path / "run", device="cpu", allow_changes=True)


def test_another_number_of_processes_resumes_with_a_new_pool(images, tmp_path):
    recipe = one_stage(images, degradation=DegradationRecipe(pool=4))
    train(recipe, tmp_path / "run", device="cpu")
    state = saved_states(tmp_path / "run" / "states" / "psnr")[-1]
    info = json.loads((state.path / "state.json").read_text())
    (state.path / "state.json").write_text(json.dumps(info | {"processes": 2}))
    shutil.copy(state.path / "process-0.pt", state.path / "process-1.pt")
    events = collected(longer(recipe, 0, 5), tmp_path / "run")
    assert "was saved by 2 processes, not 1; the pool of pairs" in "".join(notes(events))
    assert StageStarted("psnr", 3, 5) in events


@pytest.mark.parametrize("kind", ["exported", "common.pt", "folder"])
def test_a_trained_discriminator_starts_another_run(images, tmp_path, kind):
    recipe = one_stage(images, gan_stage())
    train(recipe, tmp_path / "run", device="cpu")
    state = saved_states(tmp_path / "run" / "states" / "gan")[-1]
    start = {
        "exported": tmp_path / "run" / "tiny-gan-discriminator.safetensors",
        "common.pt": state.path / "common.pt",
        "folder": state.path,
    }[kind]
    trained = state.common()["judge"]
    check_same(
        trained["network"],
        read_state_dict(tmp_path / "run" / "tiny-gan-discriminator.safetensors"),
    )
    settings = replace(GAN, discriminator=DiscriminatorSettings(features=4, start=start))
    again = one_stage(images, replace(gan_stage(), gan=settings, iterations=1))
    events = collected(again, tmp_path / "again")
    optimiser = "" if kind == "exported" else " and its optimiser"
    assert any(f"the discriminator{optimiser} start" in note for note in notes(events))
    moments = saved_states(tmp_path / "again" / "states" / "gan")[-1].common()["judge"]
    steps = moments["optimiser"]["state"][0]["step"]
    assert steps == (1 if kind == "exported" else 3)
    for key, value in trained["network"].items():
        if key.endswith("weight"):
            assert torch.allclose(moments["network"][key], value, atol=3e-3)


def test_a_state_without_discriminator_is_named(images, tmp_path):
    train(one_stage(images), tmp_path / "run", device="cpu")
    start = saved_states(tmp_path / "run" / "states" / "psnr")[-1].path / "common.pt"
    settings = replace(GAN, discriminator=DiscriminatorSettings(features=4, start=start))
    with pytest.raises(TrainingError, match=r"common\.pt: contains no discriminator"):
        train(one_stage(images, replace(gan_stage(), gan=settings)), tmp_path / "b", device="cpu")


def test_any_damage_to_a_saved_state_is_one_line(images, tmp_path):
    recipe = one_stage(images, gan_stage())
    train(recipe, tmp_path / "run", device="cpu")
    state = saved_states(tmp_path / "run" / "states" / "gan")[-1].path
    foreign = tmp_path / "foreign.pt"
    torch.save({"generator": 3, "pairs": [], "meter": {}, "random": None, "judge": {}}, foreign)
    for name in ("state.json", "ema.safetensors", "common.pt", "process-0.pt"):
        content = (state / name).read_bytes()
        damaged = [content[: len(content) * part // 4] for part in range(4)]
        damaged += [b"{}", foreign.read_bytes(), content[: len(content) // 2] + bytes(200)]
        for bytes_ in damaged:
            (state / name).write_bytes(bytes_)
            with pytest.raises(UpscaleError) as raised:
                train(longer(recipe, 0, 3), tmp_path / "run", device="cpu")
            assert "\n" not in str(raised.value)
            assert state.name in str(raised.value)
        (state / name).write_bytes(content)
    assert StageStarted("gan", 2, 3) in collected(longer(recipe, 0, 3), tmp_path / "run")


def test_a_pair_that_does_not_fit_is_reported_once(images, tmp_path):
    low = tmp_path / "low"
    for file in images.iterdir():
        write_png(read_rgb(file)[::4, ::4][: 8 if file.name == "1.png" else 12], low / file.name)
    recipe = one_stage(
        images,
        Stage("psnr", 8, OptimiserSettings(1e-3), batch=4, pixel=PixelSettings(sharpen=False)),
        data=DataSettings((Source(images, low),), patch=16, workers=0),
        degradation=DegradationRecipe("none", sharpen=False),
    )
    found = notes(collected(recipe, tmp_path / "run"))
    assert len(found) == 1
    assert "1.png" in found[0]


def test_gradients_are_clipped_to_the_largest_norm(images, tmp_path):
    for clip in (0.0, 1e-4):
        optimiser = OptimiserSettings(1e-3, clip=clip)
        stage = Stage("psnr", 1, optimiser, batch=2, ema=0.9)
        train(one_stage(images, stage), tmp_path / str(clip), device="cpu")

    def norm(clip: float) -> float:
        saved = saved_states(tmp_path / str(clip) / "states" / "psnr")[-1]
        moments = saved.common()["generator"]["optimiser"]["state"].values()
        # After one step, the running mean of Adam is a tenth of the gradient.
        return torch.cat([10 * each["exp_avg"].flatten() for each in moments]).norm().item()

    assert norm(0.0) > 1e-3
    assert norm(1e-4) == pytest.approx(1e-4, rel=1e-3)


def test_each_stage_keeps_the_best_state_of_its_own_metric(images, tmp_path):
    recipe = tiny(images)
    stages = (recipe.stages[0], replace(recipe.stages[1], best_metric="ssim"))
    recipe = replace(recipe, stages=stages, saving=SavingSettings(every=9, keep_last=1))
    assert recipe.saving_of(stages[0]).best_metric == "psnr"
    assert recipe.saving_of(stages[1]).best_metric == "ssim"
    train(recipe, tmp_path / "run", device="cpu")
    for stage, metric in (("psnr", "psnr"), ("gan", "ssim")):
        scores = {}
        for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "validation" and event["stage"] == stage:
                scores[event["step"]] = event["figures"]["validation"][metric]
        kept = {each.info.step for each in saved_states(tmp_path / "run" / "states" / stage)}
        assert max(scores, key=lambda step: (scores[step], -step)) in kept


def test_further_losses_and_mean_predictions_are_logged(images, tmp_path):
    stage = gan_stage(more=(PixelSettings("ms-ssim"), PixelSettings("focal-frequency", 0.5)))
    events = collected(one_stage(images, stage), tmp_path / "run")
    names = {name for event in events if isinstance(event, Logged) for name in event.losses}
    assert {"pixel", "ms-ssim", "focal-frequency", "mean_real", "mean_fake"} <= names


def test_a_loss_of_weight_0_is_off():
    stage = gan_stage(
        gan=replace(GAN, weight=0.0),
        more=(PixelSettings("charbonnier", weight=0.0),),
        perceptual=PerceptualSettings(Path("vgg.pth"), weight=0.0),
    )
    assert (stage.gan, stage.more, stage.perceptual) == (None, (), None)
    assert gan_stage(pixel=PixelSettings(weight=0.0)).pixel is None
    with pytest.raises(ValueError, match="a stage needs a loss"):
        gan_stage(pixel=PixelSettings(weight=0.0), gan=None)


def test_wgan_needs_a_bound():
    with pytest.raises(ValueError, match="set penalty to 10"):
        GanSettings("wgan")
    assert GanSettings("wgan", penalty=10.0).penalty == 10


def test_equal_runs_export_equal_bytes(images, tmp_path):
    recipe = one_stage(images, gan_stage(), licence="CC0", notes="a note")
    for name in ("a", "b"):
        train(recipe, tmp_path / name, device="cpu")
    for name in ("tiny-gan.safetensors", "tiny-gan-discriminator.safetensors"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b"))
        assert one == other
        assert b'"licence":"CC0"' in one


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        (SRVGGSettings, 3),
        (SRVGGSettings, 8),
        (SPANSettings, 3),
        (partial(RRDBNetSettings, blocks=1, growth=2), 8),
    ],
)
def test_other_scales_are_trained_and_used(images, tmp_path, kind, scale):
    recipe = one_stage(
        images,
        Stage("psnr", 1, OptimiserSettings(1e-3), batch=2),
        network=kind(scale=scale, features=4),
        data=DataSettings((Source(images),), patch=24, margin=0, workers=0),
    )
    (exported,) = train(recipe, tmp_path / "run", device="cpu")
    upscaled = Upscaler(str(exported), device="cpu").upscale(np.zeros((9, 7, 3), np.uint8))
    assert upscaled.shape == (9 * scale, 7 * scale, 3)
