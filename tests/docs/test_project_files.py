"""Files that surround the code agree with it and with each other."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from trove_classifiers import classifiers

import upscale
from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
YAML_FILES = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_files_are_mappings(path):
    assert isinstance(load(path), dict)


def test_there_are_forms_workflows_and_a_template():
    names = {path.relative_to(ROOT / ".github").as_posix() for path in YAML_FILES[:-2]}
    assert names >= {
        *(f"ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "feature", "config")),
        *(f"workflows/{name}.yml" for name in ("tests", "docs", "release")),
    }
    assert (ROOT / ".github/pull_request_template.md").is_file()


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_what_github_requires(name):
    form = load(ROOT / f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"] and form["description"]
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert all(item["attributes"]["label"] for item in fields)
    assert len({item["id"] for item in fields}) == len(fields)


@pytest.mark.parametrize("name", ["tests", "docs", "release"])
def test_actions_are_pinned_to_versions(name):
    """Major versions; cibuildwheel has tags of minor versions only."""
    jobs = load(ROOT / f".github/workflows/{name}.yml")["jobs"]
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert actions
    assert [
        action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)?", action)
    ] == []


def test_the_test_workflow_covers_all_systems_and_versions():
    matrix = load(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    named = "Programming Language :: Python :: 3."
    versions = [each for each in PROJECT["project"]["classifiers"] if each.startswith(named)]
    assert matrix["python"] == [each.rpartition(" ")[2] for each in versions]


def test_classifiers_exist():
    assert set(PROJECT["project"]["classifiers"]) <= set(classifiers)


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert version == upscale.__version__ == load(ROOT / "CITATION.cff")["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert "\n## Unreleased\n" in changelog
    assert released[0] == version


def test_the_drawing_of_the_packages_equals_the_import_rules():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    rules = [set(re.findall(r"[\w.]+", layer)) for layer in layers]
    svg = (ROOT / "docs/images/rooms.svg").read_text(encoding="utf-8")
    drawn: dict[str, set[str]] = {}
    for height, name in re.findall(r'<text x="[\d.]+" y="([\d.]+)"[^>]*>(upscale\.\w+)<', svg):
        drawn.setdefault(height, set()).add(name)
    assert list(drawn.values()) == rules


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def pins(name):
    """Return the versions of each package in a requirements file, by its normalised name."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(
        r"^([\w.-]+)==([^\s;\\]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE
    ):
        found.setdefault(re.sub(r"[-_.]+", "-", package).lower(), set()).add(version)
    return found


def test_every_constraint_has_hashes():
    hashed = pins("constraints-hashes.txt")
    missing = {
        name: versions
        for name, versions in pins("constraints.txt").items()
        if not versions <= hashed.get(name, set())
    }
    assert missing == {}, "run the command at the top of constraints-hashes.txt"


def test_every_package_with_hashes_has_at_least_one():
    text = (ROOT / "constraints-hashes.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text[text.index("==") - 20 :].partition("\n")[2])
    entries = [entry for entry in entries if "==" in entry and not entry.startswith("#")]
    assert len(entries) > 100
    for entry in entries:
        hashes = re.findall(r"--hash=(\w+):([0-9a-f]+)", entry)
        assert hashes, entry[:60]
        assert {(kind, len(digest)) for kind, digest in hashes} == {("sha256", 64)}


def test_releases_contain_a_bill_of_materials():
    jobs = load(ROOT / ".github/workflows/release.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["bill-of-materials"]["steps"]]
    assert any("cyclonedx-py environment" in command for command in commands)
    assert any("--require-hashes -r constraints-hashes.txt" in command for command in commands)
    assert "bill-of-materials" in jobs["release"]["needs"]
