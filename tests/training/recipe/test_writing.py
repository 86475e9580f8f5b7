"""Recipes written as text read the same again."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipe.settings import (
    DataSettings,
    OptimiserSettings,
    Recipe,
    RRDBNetSettings,
    Source,
    Stage,
    ValidationSet,
    ValidationSettings,
)
from upscale_training.recipe.writing import to_yaml
from upscale_training.recipes import bundled

from tests.budget import cases


@pytest.fixture
def recipe():
    return Recipe(
        name="a",
        network=RRDBNetSettings(scale=2),
        data=DataSettings((Source(Path("/photos")),)),
        stages=(Stage("one", 10, OptimiserSettings(1e-7)),),
        validation=ValidationSettings((ValidationSet(Path("/held"), chain="classical"),)),
        start="realesrgan-x4plus",
        licence="CC-BY-4.0",
        notes="Two lines\nand: a colon – and a dash.",
    )


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_written_recipe_reads_the_same(tmp_path, name):
    recipe = read_recipe(bundled()[name])
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert to_yaml(read_recipe(path)) == to_yaml(recipe)


def test_defaults_are_written_too(recipe):
    found = yaml.safe_load(to_yaml(recipe))
    assert list(found) == [field.name for field in fields(Recipe)]
    assert found["degradation"]["pool"] == 180
    assert found["stages"][0]["ema"] == 0.999
    assert found["stages"][0]["gan"] is None


relaxed = settings(max_examples=cases(50))


# Texts that YAML may take for something else, or that need quotes and escapes.
@relaxed
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["1e-4", "no", "1:30", "0x10", "null", "~", "", "true", ".5", "1_0", "2001-01-01", "- a", "#",
     "a\x85b", "a\u2028b", "a\n\nb", " a ", "é", "\t", "\ufeff"]
))  # fmt: skip
def test_any_text_survives(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    before = read_recipe(bundled()["tiny-x4"])
    before = replace(before, notes=text, licence=text)
    path.write_bytes(to_yaml(before).encode())
    assert read_recipe(path) == before


@relaxed
@given(st.floats(1e-300, 1e300))
def test_any_number_survives(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "number.yaml"
    before = read_recipe(bundled()["tiny-x4"])
    stage = replace(before.stages[0], optimiser=OptimiserSettings(number))
    before = replace(before, stages=(stage,))
    path.write_text(to_yaml(before))
    assert read_recipe(path).stages[0].optimiser.learning_rate == number


def test_other_readers_of_yaml_read_it_too(recipe):
    found = yaml.safe_load(to_yaml(recipe))
    assert found["data"]["sources"][0]["path"] == "/photos"
    assert found["stages"][0]["optimiser"]["betas"] == [0.9, 0.99]
    assert found["notes"] == recipe.notes


def test_bare_text_contains_no_folders(recipe):
    text = to_yaml(replace(recipe, start=Path("/home/someone/net.pth")), bare=True)
    found = yaml.safe_load(text)
    assert found["data"]["sources"][0]["path"] == "photos"
    assert found["start"] == "net.pth"
    assert found["validation"]["sets"][0]["high"] == "held"
    assert "/" not in text
