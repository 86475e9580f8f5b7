"""Recipes are read as typed values; errors name file, line and key."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from upscale_training.degradation import classical
from upscale_training.degradation.steps import BlurStep, EitherOrder, JpegStep, ResizeStep
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.settings import (
    DegradationRecipe,
    GanSettings,
    OptimiserSettings,
    PixelSettings,
    Recipe,
    RRDBNetSettings,
    SRVGGSettings,
    Stage,
)

from upscale.errors import DependencyError, TrainingError, UsageError
from upscale.metrics.registry import metrics

LINES = """\
name: small
network:
  architecture: rrdbnet
  scale: 4
  blocks: 2
data:
  sources:
    - path: photos
  patch: 64
degradation:
  chain:
    - do: blur
      sigma: [0.2, 3]
    - do: resize
      up: 0
      down: 0
      keep: 1
      of: result
  pool: 16
stages:
  - name: psnr
    iterations: 10
    batch: 4
    optimiser:
      learning_rate: 2e-4
  - name: gan
    iterations: 10
    batch: 4
    optimiser:
      learning_rate: 1e-4
    gan:
      discriminator:
        kind: unet
validation:
  sets:
    - high: held-out
""".splitlines()


@pytest.fixture
def write(tmp_path):
    """Writes the recipe above, with some lines replaced (from 1 on; None takes one out)."""

    def write(changes: dict[int, str | None] | None = None) -> Path:
        lines = dict(enumerate(LINES, 1)) | (changes or {})
        path = tmp_path / "small.yaml"
        path.write_text("\n".join(line for line in lines.values() if line is not None))
        return path

    return write


def error_message(path: Path, overrides: list[str] | None = None) -> str:
    """The message without the file's folder."""
    with pytest.raises(TrainingError) as caught:
        read_recipe(path, overrides or [])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(f"{path.parent}/")


def test_values_of_the_file_are_read(write):
    recipe = read_recipe(write())
    assert recipe.name == "small"
    assert recipe.network == RRDBNetSettings(scale=4, blocks=2)
    assert recipe.data.patch == 64
    assert recipe.degradation.chain == (
        BlurStep(sigma=(0.2, 3.0)),
        ResizeStep(up=0, down=0, keep=1, of="result"),
    )
    assert recipe.degradation.pool == 16
    psnr, gan = recipe.stages
    assert psnr == Stage("psnr", 10, OptimiserSettings(2e-4), batch=4)
    assert gan.gan == GanSettings()
    assert recipe.validation and recipe.validation.every == 5000


def test_defaults_are_those_of_the_paper(write):
    recipe = read_recipe(write({10: None} | dict.fromkeys(range(11, 20)) | {23: None}))
    assert recipe.degradation == DegradationRecipe("real-esrgan", "corrected", True, 180)
    assert recipe.stages[0].batch == 12
    assert recipe.stages[0].ema == 0.999
    assert recipe.stages[0].pixel == PixelSettings("l1", 1.0, sharpen=True)
    assert recipe.stages[0].optimiser.betas == (0.9, 0.99)


def test_paths_are_relative_to_the_recipe(write, tmp_path, monkeypatch):
    path = write({8: "    - {path: ../photos, low: /bad}"}
                 | {10: "degradation:", 11: "  chain: none"} | dict.fromkeys(range(12, 19))
                 | {36: "    - {high: held-out, low: ~/low}"})  # fmt: skip
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir("/")
    recipe = read_recipe(path)
    assert recipe.data.sources[0].path == tmp_path.parent / "photos"
    assert recipe.data.sources[0].low == Path("/bad")
    assert recipe.validation is not None
    assert recipe.validation.sets[0].high == tmp_path / "held-out"
    assert recipe.validation.sets[0].low == Path("/home/someone/low")


def test_paths_of_overrides_are_relative_to_the_working_folder(write, tmp_path, monkeypatch):
    path = write()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = read_recipe(path, ["data.sources.0.path=mine", "start=weights.pth"])
    assert recipe.data.sources[0].path == tmp_path / "elsewhere/mine"
    assert recipe.start == tmp_path / "elsewhere/weights.pth"


@pytest.mark.parametrize("name", ["realesrgan-x4plus", "RealESRGAN_x4plus"])
def test_a_start_without_folder_and_suffix_is_the_name_of_a_network(write, name):
    assert read_recipe(write(), [f"start={name}"]).start == name


def test_a_start_with_folder_or_suffix_is_a_file(write, tmp_path):
    assert read_recipe(write({1: "name: small\nstart: net.pth"})).start == tmp_path / "net.pth"
    assert read_recipe(write({1: "name: small\nstart: nets/net"})).start == tmp_path / "nets/net"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1", 1.0), ("0.5", 0.5), (".5", 0.5), ("1_0.0", 10.0), ("+2E1", 20.0)],
)
def test_numbers_are_those_of_yaml_1_2(write, text, value):
    recipe = read_recipe(write({25: f"      learning_rate: {text}"}))
    assert recipe.stages[0].optimiser.learning_rate == value


def test_whole_numbers_may_have_underscores(write):
    recipe = read_recipe(write({22: "    iterations: 1_000_000"}))
    assert recipe.stages[0].iterations == 1_000_000


@pytest.mark.parametrize("name", ["no", "1:30", "2001-01-01", "0x10", "on"])
def test_text_stays_text(write, name):
    assert read_recipe(write({1: f"name: {name}"})).name == name


def test_steps_may_be_nested(write):
    recipe = read_recipe(write({
        12: "    - do: either_order", 13: "      one: [{do: jpeg}]",
        14: "      other:", 15: "        - {do: resize, up: 0, down: 0, keep: 1, of: result}",
        16: None, 17: None, 18: None,
    }))  # fmt: skip
    (step,) = recipe.degradation.chain
    assert step == EitherOrder(
        one=(JpegStep(),), other=(ResizeStep(up=0, down=0, keep=1, of="result"),)
    )


BAD: list[tuple[str, dict[int, str | None], str]] = [
    ("a key with a slip", {5: "  blokcs: 2"},
     "small.yaml:5: network.blokcs: there is no such key; did you mean blocks?"),
    ("a key at the wrong level", {1: "name: small\npatch: 64"},
     "small.yaml:2: patch: there is no such key; did you mean data.patch?"),
    ("a key one level too high", {25: "      kind: adam", 23: "    learning_rate: 1e-4"},
     "small.yaml:23: stages.0.learning_rate: there is no such key; did you mean "
     "optimiser.learning_rate?"),
    ("a key of another network", {3: "  architecture: srvgg"},
     "small.yaml:5: network.blocks: there is no such key; there are architecture, scale, "
     "features, convolutions"),
    ("a section with a slip", {6: "dta:"}, "small.yaml:6: dta: there is no such key; "
     "did you mean data?"),
    ("a key of a step with a slip", {13: "      sigmas: [0.2, 3]"},
     "small.yaml:13: degradation.chain.0.sigmas: there is no such key; did you mean sigma?"),
    ("a key twice", {5: "  scale: 2"},
     "small.yaml:5: network.scale: occurs twice, first in line 4"),
    ("a key that is no word", {5: "  [1, 2]: 3"},
     "small.yaml:5: network.?: a key must be a single word"),
    ("a missing key", {22: None}, "small.yaml:21: stages.0: lacks iterations"),
    ("a missing section", {6: None, 7: None, 8: None, 9: None}, "small.yaml:1: lacks data"),
    ("no architecture", {3: None},
     "small.yaml:2: network: lacks architecture: rrdbnet or srvgg or span or rcan or realcugan "
     "or realplksr or spandrel"),
    ("an unknown architecture", {3: "  architecture: rrdb"},
     "small.yaml:3: network.architecture: must be 'rrdbnet', 'srvgg', 'span', 'rcan', "
     "'realcugan', 'realplksr' or 'spandrel', not \"rrdb\"; did you mean rrdbnet?"),
    ("a step without a name", {12: "    - probability: 1"},
     "small.yaml:12: degradation.chain.0: lacks do: blur or resize or noise or grain or "
     "jpeg or either_order or webp or video or kernel or injected_noise"),
    ("an unknown step", {14: "    - do: rezise"},
     "small.yaml:14: degradation.chain.1.do: must be 'blur', 'resize', 'noise', 'grain', "
     "'jpeg', 'either_order', 'webp', 'video', 'kernel' or 'injected_noise', "
     "not \"rezise\"; did you mean resize?"),
    ("text for a whole number", {9: "  patch: large"},
     'small.yaml:9: data.patch: must be a whole number, not "large"'),
    ("a fraction for a whole number", {9: "  patch: 64.5"},
     "small.yaml:9: data.patch: must be a whole number, not 64.5"),
    ("a switch for a number", {4: "  scale: true"},
     "small.yaml:4: network.scale: must be a number, not true"),
    ("text for a number", {25: "      learning_rate: fast"},
     'small.yaml:25: stages.0.optimiser.learning_rate: must be a number, not "fast"'),
    ("no number", {25: "      learning_rate: !!float .nan"},
     "small.yaml:25: stages.0.optimiser.learning_rate: .nan is no float"),
    ("an endless number", {25: "      learning_rate: 1e999"},
     "small.yaml:25: stages.0.optimiser.learning_rate: must be a finite number, not Infinity"),
    ("text for a switch", {9: "  patch: 64\n  flips: yes"},
     'small.yaml:10: data.flips: must be true or false, not "yes"'),
    ("a number for text", {1: "name: 1"}, "small.yaml:1: name: must be text, not 1"),
    ("null for text", {1: "name:"}, "small.yaml:1: name: must be text, not null"),
    ("a scale that no network has", {4: "  scale: 3"},
     "small.yaml:4: network.scale: must be 1, 2, 4 or 8, not 3"),
    ("a choice with a slip", {33: "        kind: unett"},
     "small.yaml:33: stages.1.gan.discriminator.kind: must be 'unet', 'vgg' or 'patch', not "
     '"unett"; did you mean unet?'),
    ("an unknown chain", {11: "  chain: clasical"} | dict.fromkeys(range(12, 19)),
     "small.yaml:11: degradation.chain: must be 'real-esrgan', 'classical', 'generic' or 'none', "
     'not "clasical"; did you mean classical?'),
    ("a pair of one", {13: "      sigma: [0.2]"},
     "small.yaml:13: degradation.chain.0.sigma: must have more values, not [0.2]"),
    ("a pair of three", {13: "      sigma: [0.2, 3, 4]"},
     "small.yaml:13: degradation.chain.0.sigma: must have fewer values, not [0.2, 3, 4]"),
    ("a pair with text", {13: "      sigma:\n        - 0.2\n        - wide"},
     'small.yaml:15: degradation.chain.0.sigma.1: must be a number, not "wide"'),
    ("a value for a mapping", {31: "    gan: true", 32: None, 33: None},
     "small.yaml:31: stages.1.gan: must be a mapping of keys"),
    ("a value for a list", {7: "  sources: photos", 8: None},
     'small.yaml:7: data.sources: must be a list, not "photos"'),
    ("a mapping for a list", {8: "    path: photos"},
     'small.yaml:7: data.sources: must be a list, not {"path": "photos"}'),
    ("a text in a list of mappings", {8: "    - photos"},
     "small.yaml:8: data.sources.0: must be a mapping of keys"),
    ("an empty path", {8: "    - path: ''"}, "small.yaml:8: data.sources.0.path: is empty"),
    ("a tag", {1: "name: !!binary aGk="}, "small.yaml:1: name: aGk= is no binary"),
    ("an alias", {4: "  scale: &four 4", 9: "  patch: *four"},
     "small.yaml:9: aliases (*) are not allowed; repeat the value instead"),
    ("a broken line", {5: "  blocks: [2"}, "small.yaml:6: is not YAML: "
     "expected ',' or ']', but got ':'"),

    ("no blocks", {5: "  blocks: 0"},
     "small.yaml:5: network.blocks: must be greater than 0, not 0"),
    ("a negative rate", {25: "      learning_rate: -1"},
     "small.yaml:25: stages.0.optimiser.learning_rate: must be greater than 0, not -1"),
    ("a beta of 1", {25: "      learning_rate: 1e-4\n      betas: [0.9, 1]"},
     "small.yaml:26: stages.0.optimiser.betas.1: must be less than 1, not 1"),
    ("an average that never moves", {23: "    ema: 1"},
     "small.yaml:23: stages.0.ema: must be less than 1, not 1"),
    ("a falling pair", {13: "      sigma: [3, 0.2]"},
     "small.yaml:13: degradation.chain.0.sigma: must be a rising pair, at least 0.001, not"
     " [3.0, 0.2]"),
    ("milestones that fall", {23: "    schedule:\n      milestones: [20, 10]"},
     "small.yaml:24: stages.0.schedule.milestones: must rise, not [20, 10]"),
    ("a chain of another size", {18: "      of: present"},
     "small.yaml:11: degradation.chain: the last resize of a degradation must keep the size of "
     "the result"),
    ("kinds that basicsr lacks", {18: "      of: result\n      kinds: [lanczos]",
                                  19: "  mode: official"},
     "small.yaml:11: degradation.chain: basicsr cannot resize by lanczos: use mode corrected"),
    ("a patch that does not divide", {9: "  patch: 66"},
     "small.yaml:9: data.patch: must be a multiple of 4, not 66"),
    ("a pool smaller than a batch", {28: "    batch: 17"},
     "small.yaml:19: degradation.pool: 16 pairs are fewer than the batch of gan, 17; "
     "increase it, or write 0 for no pool"),
    ("a discriminator of other patches", {33: "        kind: vgg"},
     "small.yaml:33: stages.1.gan.discriminator.kind: a vgg discriminator needs patches of"
     " 128 or 256, but data.patch is 64"),
    ("a margin that does not divide", {9: "  patch: 64\n  margin: 5"},
     "small.yaml:10: data.margin: twice the margin must be a multiple of 4, not 10"),
    ("a patch too small for the discriminator", {9: "  patch: 20", 33: "        kind: patch"},
     "small.yaml:33: stages.1.gan.discriminator.kind: a patch discriminator needs patches "
     "of at least 24, but data.patch is 20"),
    ("pairs that are degraded", {8: "    - {path: photos, low: bad}"},
     "small.yaml:11: degradation.chain: the sources have LR images already; write none, or"
     " remove low from sources"),
    ("neither pairs nor degradation", {11: "  chain: none"} | dict.fromkeys(range(12, 19)),
     "small.yaml:11: degradation.chain: the chain none creates no LR images, and the "
     "sources have none (low)"),
    ("pairs among others, without degradation",
     {8: "    - {path: photos, low: bad}\n    - path: more", 11: "  chain: none"}
     | dict.fromkeys(range(12, 19)),
     "small.yaml:12: degradation.chain: the chain none creates no LR images, and the "
     "sources have none (low)"),
    ("no sources", {7: "  sources: []", 8: None},
     "small.yaml:7: data.sources: must not be empty"),
    ("no stages", {20: "stages: []"} | dict.fromkeys(range(21, 34)),
     "small.yaml:20: stages: must not be empty"),
    ("two stages of one name", {26: "  - name: psnr"},
     "small.yaml:20: stages: psnr occurs twice"),
    ("a stage without a loss", {23: "    pixel: null"},
     "small.yaml:23: stages.0.pixel: a stage needs a loss: pixel, perceptual or gan"),
    ("a critic that nothing bounds", {23: "    gan: {kind: wgan}"},
     "small.yaml:23: stages.0.gan.kind: nothing bounds the discriminator of wgan; set penalty to "
     "10, or use wgan-softplus"),
    ("milestones of a cosine", {23: "    schedule: {kind: cosine, milestones: [3]}"},
     "small.yaml:23: stages.0.schedule.milestones: belong to the kind steps, not to cosine; "
     "remove them"),
    ("a minimum without a cosine", {23: "    schedule: {minimum: 0.1}"},
     "small.yaml:23: stages.0.schedule.kind: periods and minimum belong to the kind cosine"),
    ("a name with a folder", {21: "  - name: a/b"},
     "small.yaml:21: stages.0.name: must be usable as a file name, not 'a/b'"),
    ("a best that is not measured", {36: "    - high: held-out\n  metrics: [ssim]"},
     "small.yaml:1: saving.best_metric: psnr is not one of the validation's metrics (ssim)"),
    ("a metric with a slip", {36: "    - high: held-out\n  metrics: [psrn]"},
     "small.yaml:37: validation.metrics.0: must be 'psnr', 'psnr-y', 'ssim', 'ssim-y', 'lpips', "
     "'lpips-vgg', 'dists', 'st-lpips', 'text', 'colour-shift', 'niqe', 'brisque' or 'piqe', not "
     "\"psrn\"; did you mean psnr?"),
    ("a validation set made and given", {36: "    - {high: a, low: b, chain: classical}"},
     "small.yaml:36: validation.sets.0.chain: low and chain exclude each other: both give "
     "LR images"),
    ("a validation set of nothing",
     {8: "    - {path: photos, low: bad}", 11: "  chain: none"} | dict.fromkeys(range(12, 19)),
     "small.yaml:29: validation.sets.0: the recipe has no degradation; add low or chain to"
     " this set"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in BAD],
                         ids=[case[0] for case in BAD])  # fmt: skip
def test_a_wrong_recipe_raises_an_error_with_line_and_key(write, changes, message):
    assert error_message(write(changes)) == message


def test_files_that_are_no_recipes_raise_an_error(tmp_path):
    path = tmp_path / "r.yaml"
    assert (
        error_message(path) == "r.yaml: cannot be read (No such file or directory); name a recipe"
    )
    for content, message in [
        (b"", "r.yaml: is empty"),
        (b"# nothing", "r.yaml: is empty"),
        (b"- 1", "r.yaml:1: must be a mapping of keys"),
        (b"just text", "r.yaml:1: must be a mapping of keys"),
        (b"name: \xff\xfe", "r.yaml: is not YAML: "),
        (b"a: 1\n---\nb: 2", "r.yaml:2: is not YAML: but found another document"),
        (b"[" * 100_000, "r.yaml: is nested too deeply"),
        (b"\x00\x01", "r.yaml: is not YAML: "),
    ]:
        path.write_bytes(content)
        assert error_message(path).startswith(message)


def test_a_path_with_a_line_break_gives_a_message_of_one_line(tmp_path):
    with pytest.raises(TrainingError) as caught:
        read_recipe(tmp_path / "a\nb.yaml")
    assert "\n" not in str(caught.value)


def test_overrides_change_and_add_values_and_count_items_from_0(write):
    recipe = read_recipe(write(), [
        "network.blocks=6", "stages.0.iterations=100", "stages.1.gan.weight=0.05",
        "saving.keep_last=5", "stages.0.perceptual.backbone=/vgg.pth",
        "stages.0.optimiser={learning_rate: 1e-3, kind: adamw}", "degradation.chain=classical",
        "validation=null", "stages.0.optimiser.betas=[0.5, 0.9]", "notes=a = b",
    ])  # fmt: skip
    psnr, gan = recipe.stages
    assert isinstance(recipe.network, RRDBNetSettings) and recipe.network.blocks == 6
    assert psnr.iterations == 100
    assert gan.iterations == 10
    assert gan.gan and gan.gan.weight == 0.05
    assert recipe.saving.keep_last == 5
    assert psnr.perceptual and psnr.perceptual.backbone == Path("/vgg.pth")
    assert psnr.optimiser == OptimiserSettings(1e-3, "adamw", (0.5, 0.9))
    assert recipe.degradation.settings(4) == classical(4)
    assert recipe.validation is None
    assert recipe.notes == "a = b"


def test_an_override_can_replace_null(write):
    path = write({31: "    gan: ~", 32: None, 33: None})
    gan = read_recipe(path, ["stages.1.gan.discriminator.kind=patch"]).stages[1].gan
    assert gan and gan.discriminator.kind == "patch"


def test_the_last_override_of_a_key_counts(write):
    assert read_recipe(write(), ["seed=1", "seed=2"]).seed == 2


def test_a_network_can_be_replaced_as_a_whole(write):
    recipe = read_recipe(write(), ["network={architecture: srvgg, scale: 2, convolutions: 3}"])
    assert recipe.network == SRVGGSettings(scale=2, convolutions=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.blokcs=6", "network.blokcs: there is no such key; did you mean blocks?"),
        ("netwrok.blocks=6", "netwrok: there is no such key; did you mean network?"),
        ("network.blocks=six", 'network.blocks: must be a whole number, not "six"'),
        ("network.blocks=", "network.blocks: must be a whole number, not null"),
        ("network.blocks=0", "network.blocks: must be greater than 0, not 0"),
        (
            "data.sources.0.path=s3://bucket/x",
            "data.sources.0.path: s3://bucket/x is an address; "
            "only local files, folders and LMDBs can be read here: download it, or use shards in "
            "data.sources",
        ),
        ("data.patch=66", "data.patch: must be a multiple of 4, not 66"),
        ("stages.7.batch=1", "stages: has no item 7; it has 2, counted from 0"),
        ("stages.-1.batch=1", "stages: has no item -1; it has 2, counted from 0"),
        ("stages.psnr.batch=1", "stages: has no item psnr; it has 2, counted from 0"),
        ("stages.7=1", "stages: has no item 7; it has 2, counted from 0"),
        ("name.first=1", "name: is no mapping or list, so it has no keys"),
        ("seed=[", "is not YAML: expected the node content, but found '<stream end>'"),
        ("seed", "write a key and a value, for example network.blocks=6"),
        ("=6", "write a key and a value, for example network.blocks=6"),
        ("network..blocks=6", "write a key and a value, for example network.blocks=6"),
    ],
)
def test_a_wrong_override_is_a_usage_error(write, override, message):
    with pytest.raises(UsageError) as caught:
        read_recipe(write(), [override])
    assert str(caught.value) == f"--set {override}: {message}"


def test_an_error_in_the_file_beside_an_override_names_the_file(write):
    message = error_message(write({5: "  blocks: 0"}), ["seed=1"])
    assert message.startswith("small.yaml:5: network.blocks")


def test_a_long_override_is_shortened_in_the_message(write):
    with pytest.raises(UsageError) as caught:
        read_recipe(write(), ["network.blocks=" + "9" * 5000])
    assert len(str(caught.value)) < 200


def test_without_pyyaml_the_error_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "upscale_training.recipe.nodes")
    with pytest.raises(DependencyError, match=r'pip install "upscale\[train\]"'):
        importlib.import_module("upscale_training.recipe.nodes")


def test_every_registered_metric_can_be_used(write):
    path = write({36: f"    - high: held-out\n  metrics: [{', '.join(metrics())}]"})
    validation = read_recipe(path).validation
    assert validation and validation.metrics == tuple(metrics())


def test_a_deprecated_key_still_works_with_one_warning(write, caplog):
    path = write({36: "    - high: held-out\n  pictures: 7"})
    validation = read_recipe(path).validation
    assert validation and validation.images == 7
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}:37: validation.pictures: deprecated; use images"
    ]


def test_settings_with_wrong_values_cannot_be_constructed():
    with pytest.raises(ValidationError, match="greater than 0"):
        OptimiserSettings(-1)
    with pytest.raises(ValidationError, match="a stage needs a loss"):
        Stage("psnr", 10, OptimiserSettings(1e-4), pixel=None)


def test_the_recipe_without_changes_is_valid(write):
    assert isinstance(read_recipe(write()), Recipe)
    assert len(BAD) >= 25
