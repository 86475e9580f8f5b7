"""`upscale train` as people use it; the loop itself is tested in tests/training/loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.training.loop.runs import make_images

RECIPE = """\
name: mine
network: {architecture: rrdbnet, scale: 4, features: 4, blocks: 1, growth: 2}
data:
  sources: [{path: photos}]
  patch: 16
  margin: 4
  workers: 0
degradation: {pool: 4}
stages:
  - {name: psnr, iterations: 4, batch: 2, optimiser: {learning_rate: 1e-3}}
  - name: gan
    iterations: 3
    batch: 2
    optimiser: {learning_rate: 1e-4}
    gan: {discriminator: {features: 4}}
validation:
  sets: [{high: photos}]
  every: 2
logging: {every: 2, tensorboard: false}
licence: CC0-1.0
"""

OPTIONS = """\
name: translated
model_type: RealESRNetModel
scale: 4
gt_usm: true
gt_size: 64
datasets:
  train:
    type: RealESRGANDataset
    dataroot_gt: photos
    batch_size_per_gpu: 2
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, num_grow_ch: 4}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 0.0002, weight_decay: 0, betas: [0.9, 0.99]}
  total_iter: 10
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    make_images(tmp_path / "photos")
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_both_stages_are_trained_and_their_files_upscale_a_photograph(
    recipe, real_call, photo, size_of, tmp_path
):
    ended = real_call("train", "mine.yaml", "-o", "run", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert ended.out.split() == [
        str(Path("run") / "mine-psnr.safetensors"),
        str(Path("run") / "mine-gan.safetensors"),
    ]
    for words in ("psnr: starting, 4 iterations", "psnr 2/4: pixel 0.", "bicubic: psnr ",
                  "gan 3/3: pixel 0.", "discriminator "):  # fmt: skip
        assert words in ended.err
    photo("photo.png", 24, 16)
    upscaled = real_call("photo.png", "-n", "run/mine-gan.safetensors", "-o", "large.png")
    assert upscaled.code == 0, upscaled.err
    assert size_of(tmp_path / "large.png") == (96, 64)
    info = real_call("models", "info", "run/mine-gan.safetensors")
    for line in ("licence       CC0-1.0", "scale         4", "steps "):
        assert line.split()[0] in info.out
    assert "RRDBNet x4, 1 blocks, 4 features, growth 2" in info.out


def test_events_are_json_objects_on_standard_output(recipe, call):
    ended = call("train", recipe, "--json", "--quiet", "--stage", "psnr", "--device", "cpu")
    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    events = [record["event"] for record in records]
    # States are written by a thread, so that the first one is complete at any later time.
    assert [event for event in events if event != "saved"] == [
        "baseline", "stage", "step", "validation", "step", "validation", "exported",
    ]  # fmt: skip
    saved = [place for place, event in enumerate(events) if event == "saved"]
    assert len(saved) == 2 and saved[0] > 3
    assert saved[1] == len(events) - 2
    assert records[2]["losses"].keys() == {"pixel", "shift", "contrast"}
    assert records[-1]["path"] == str(Path("mine") / "mine-psnr.safetensors")
    assert ended.err == ""


def test_the_same_command_resumes_and_restart_discards(recipe, call):
    shorter = ("--set", "stages.0.iterations=2")
    assert call("train", recipe, "--stage", "psnr", *shorter).code == 0
    again = call("train", recipe, "--stage", "psnr")
    assert again.code == 0, again.err
    assert "psnr: resuming after 2 of 4 iterations" in again.err
    changed = call("train", recipe, "--stage", "psnr", "--set", "seed=1")
    assert changed.code == 1
    assert "seed was 0 and is 1" in changed.err
    assert changed.err.count("\n") == 1
    restarted = call("train", recipe, "--stage", "psnr", "--set", "seed=1", "--restart")
    assert restarted.code == 0, restarted.err
    assert "psnr: starting, 4 iterations" in restarted.err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_is_resumed(
    recipe, program, program_environment, tmp_path, number
):
    def restore_signals() -> None:
        """A test run in the background ignores these, and its children would, too."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    def command(iterations: int) -> list[str]:
        changes = (
            f"stages.0.iterations={iterations}",
            "logging.every=1",
            "validation=null",
            "data.workers=1",
        )
        sets = [word for change in changes for word in ("--set", change)]
        return ["train", "mine.yaml", "-o", "run", "--json", "--stage", "psnr", *sets]

    process = subprocess.Popen(
        [sys.executable, "-m", "upscale", *command(100_000)],
        cwd=tmp_path,
        env=program_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=restore_signals,  # noqa: PLW1509
    )
    assert process.stdout is not None
    for line in process.stdout:
        if '"event": "step"' in line:
            break
    os.killpg(process.pid, number)  # as a terminal and torchrun do, readers and all
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    saved = json.loads(out.splitlines()[-1])
    assert saved["event"] == "saved"
    again = program(*command(saved["step"] + 1))
    assert again.code == 0, again.err
    first = json.loads(again.out.splitlines()[0])
    assert (first["event"], first["step"]) == ("stage", saved["step"])


def test_a_check_trains_nothing_and_prints_a_summary(recipe, call, tmp_path):
    ended = call("train", recipe, "--check", "--device", "cpu")
    assert ended.code == 0, ended.err
    for words in ("RRDBNet x4, 1 blocks", "5 samples an epoch", "stage gan", "5 in validation"):
        assert words in ended.out
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "mine.yaml"}
    refused = call("train", recipe, "--check", "--set", "data.sources.0.path=nowhere")
    assert refused.code == 1
    assert "nowhere" in refused.err


def test_included_recipes_are_listed_and_used_by_name(call, tmp_path):
    ended = call("train", "--recipes")
    assert ended.code == 0
    names = [line.split()[0] for line in ended.out.splitlines()]
    assert "tiny-x4" in names
    records = [json.loads(line) for line in call("train", "--recipes", "--json").out.splitlines()]
    assert [record["name"] for record in records] == names
    make_images(tmp_path / "photos")
    change = ("--set", f"data.sources.0.path={tmp_path / 'photos'}")
    checked = call("train", "tiny-x4", "--check", *change)
    assert checked.code == 0, checked.err
    assert call("train", "tiny-x5").err == (
        "error: tiny-x5: is neither a recipe file nor an included recipe; did you mean tiny-x4?\n"
    )


def test_an_official_option_file_becomes_a_recipe_that_passes_the_check(call, tmp_path):
    make_images(tmp_path / "photos")
    (tmp_path / "official.yml").write_text(OPTIONS)
    ended = call("train", "--translate", "official.yml")
    assert ended.code == 0, ended.err
    assert "note: " in ended.err
    (tmp_path / "translated.yaml").write_text(ended.out)
    checked = call("train", "translated.yaml", "--check")
    assert checked.code == 0, checked.err
    assert "RRDBNet x4, 1 blocks, 8 features, growth 4" in checked.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "mine.yaml", "--recipes"],
        ["train", "--recipes", "--translate", "official.yml"],
        ["train", "nonsense"],
        ["train", "mine.yaml", "--set", "data.pach=3"],
        ["train", "mine.yaml", "--stage", "nonsense", "--device", "cpu"],
        ["train", "mine.yaml", "--device", "nonsense"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, recipe, call):
    ended = call(*arguments)
    assert ended.code == 2, ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


def test_bars_are_removed_and_messages_stay(recipe, call):
    ended = call("train", recipe, "--stage", "psnr", "--device", "cpu", terminal=True)
    assert ended.code == 0
    assert ended.out.strip() == str(Path("mine") / "mine-psnr.safetensors")
    assert "bicubic: psnr" in ended.err
    assert "images/s" in ended.err


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("lightning_fabric", "training needs Lightning Fabric"),
        ("yaml", "recipes need PyYAML"),
        ("tensorboard", "TensorBoard is not installed"),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(
    recipe, program_environment, tmp_path, package, words
):
    script = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "from upscale.cli.app import run\n"
        "from upscale.cli.session import Session\n"
        "sys.exit(run(sys.argv[1:], Session.of_process()))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "train", "mine.yaml", "--device", "cpu",
         "--set", "logging.tensorboard=true"],
        cwd=tmp_path, env=program_environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert words in ended.stderr.splitlines()[-1]
    assert 'pip install "upscale[train]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_photograph_is_all_that_cv2_needs_of_the_shown_images(recipe, call, tmp_path):
    assert call("train", recipe, "--stage", "psnr", "--device", "cpu").code == 0
    grids = sorted((tmp_path / "mine" / "pictures" / "psnr" / "00000004").iterdir())
    assert len(grids) == 4
    assert cv2.imread(str(grids[0])).shape[2] == 3
