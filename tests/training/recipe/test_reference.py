"""docs/reference/recipes.md describes every key of recipes, and nothing else."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipes import bundled

_spec = importlib.util.spec_from_file_location(
    "reference", Path(__file__).with_name("reference.py")
)
assert _spec and _spec.loader
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


@pytest.fixture
def page():
    return reference.PAGE.read_text(encoding="utf-8")


def test_every_key_is_there_with_its_values_default_and_meaning(page):
    # To bring it up to date: python tests/training/recipe/reference.py
    assert page == reference.filled(page)
    assert set(re.findall(r"<!-- keys: (\w+) -->", page)) == set(reference.KINDS)


def test_every_link_leads_to_a_heading(page):
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings


def test_its_example_is_a_recipe(page, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    recipe = read_recipe(path, ["network.blocks=6", "stages.0.schedule.milestones=[100, 200]"])
    assert recipe.stages[0].schedule.milestones == (100, 200)


def test_it_lists_the_recipes_that_come_with_upscale(page):
    rows = page.partition("| recipe |")[2].partition("## Rules")[0]
    named = re.findall(r"`([^`]+)`", rows)
    named = ["real-esrgan" + name if name.startswith("-") else name for name in named]
    assert set(named) == set(bundled())
