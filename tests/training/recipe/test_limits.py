"""Numbers of recipes that no machine could hold are refused before memory is allocated."""

from __future__ import annotations

import pytest
import torch
from upscale_training.loop.initialisation import fresh_discriminator, fresh_generator
from upscale_training.loop.resume_check import find_changes
from upscale_training.recipe.nodes import compose
from upscale_training.recipe.reading import build_recipe, read_recipe
from upscale_training.recipe.settings import DiscriminatorSettings
from upscale_training.recipe.writing import to_yaml

from upscale.errors import TrainingError, UsageError
from upscale.models import RRDBSpec, SRVGGSpec

RECIPE = """\
name: small
network: {architecture: srvgg, features: 4, convolutions: 1}
data:
  sources: [{path: photos}]
  patch: 32
degradation:
  chain:
    - {do: resize, factors: [0.5, 1.5]}
    - {do: blur}
    - {do: resize, up: 0, down: 0, keep: 1, of: result}
stages:
  - {name: a, iterations: 3, pixel: {weight: 1}, optimiser: {learning_rate: 1e-4}}
"""


@pytest.mark.parametrize(
    "change",
    [
        "network.convolutions=100000000",
        "network.features=1000000",
        "network={architecture: rrdbnet, blocks: 100000000}",
        "network={architecture: rrdbnet, growth: 1000000}",
        "data.patch=1000000000",
        "data.margin=1000000000",
        "data.workers=1000000",
        "degradation.pool=1000000000",
        "stages.0.batch=1000000000",
        "stages.0.accumulate=1000000000",
        "degradation.chain.0.factors=[1, 1000000]",
        "degradation.chain.1.sizes=[7, 1000001]",
        "stages.0.gan={discriminator: {features: 1000000}}",
        "network.convolutions=" + "9" * 5000,
    ],
)
def test_huge_numbers_are_refused_in_one_line(change, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    read_recipe(tmp_path / "r.yaml")
    with pytest.raises(UsageError) as raised:
        read_recipe(tmp_path / "r.yaml", [change])
    message = str(raised.value)
    assert "\n" not in message and len(message) < 300
    assert any(part in message for part in ("less than or equal", "at most", "no int", "must be"))


@pytest.mark.parametrize(
    "spec", [SRVGGSpec(features=2048, convolutions=1000), RRDBSpec(features=2048, growth=2048)]
)
def test_large_networks_are_refused_before_they_are_built(spec):
    with pytest.raises(TrainingError, match="parameters, more than 500,000,000"):
        fresh_generator(spec)


def test_large_discriminators_are_refused_before_they_are_built():
    with pytest.raises(TrainingError, match=r"the vgg discriminator has .* parameters"):
        fresh_discriminator(DiscriminatorSettings(kind="vgg", features=2048), 256)
    small = fresh_discriminator(DiscriminatorSettings(features=4), 64)
    assert all(parameter.device == torch.device("cpu") for parameter in small.parameters())


def test_aliases_in_the_recipe_of_a_saved_state_are_refused(tmp_path):
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
    )
    with pytest.raises(TrainingError, match=r"the saved recipe:2: aliases \(\*\) are not allowed"):
        find_changes(tmp_path / "00000005", bomb, RECIPE, 0)
    now = to_yaml(build_recipe(compose(RECIPE, "r.yaml")))
    assert find_changes(tmp_path / "00000005", RECIPE, now, 0) == ()


def test_deeply_nested_recipes_are_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("a: " + "[" * 100_000)
    with pytest.raises(TrainingError, match="nested too deeply"):
        read_recipe(tmp_path / "r.yaml")
