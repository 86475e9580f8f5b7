"""A metric from outside the package works everywhere that built-in metrics do."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from upscale.cli.app import run
from upscale.cli.session import Session
from upscale.errors import UsageError
from upscale.images import Image, write_file
from upscale.jobs.eval_items import EvalItem
from upscale.jobs.evaluation import load_metrics, measure
from upscale.metrics import (
    Metric,
    MetricError,
    Resources,
    metric_names,
    metrics,
    register,
    unregister,
)


def load_toy(resources: Resources):
    """Load the toy metric: the largest difference from the reference."""

    def largest_difference(pixels, reference, border):
        if min(pixels.shape[:2]) < 4:
            raise MetricError("smaller than 4x4")
        return float(np.abs(np.int64(pixels) - reference).max())

    return largest_difference


TOY = Metric(
    name="toy",
    title="Toy",
    paired=True,
    better="less",
    digits=1,
    implementation="largest difference from the reference",
    load=load_toy,
)


@pytest.fixture
def toy():
    """Register the toy metric for a test."""
    register(TOY)
    yield TOY
    unregister("toy")


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """An image whose largest difference from its reference is 7, and the reference."""
    reference = np.full((8, 8, 3), 100, np.uint8)
    image = reference.copy()
    image[2, 3, 1] = 107
    for name, pixels in (("image.png", image), ("reference.png", reference)):
        write_file(Image(pixels), tmp_path / name, format="png")
    return tmp_path / "image.png", tmp_path / "reference.png"


def eval_json(*arguments: str) -> tuple[int, list[dict], str]:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    code = run(["eval", *arguments, "--json"], Session(io.BytesIO(), out, err, {}))
    out.flush()
    return code, [json.loads(line) for line in out.buffer.getvalue().splitlines()], err.getvalue()


def test_registered_metric_is_listed_last(toy):
    assert metric_names()[-1] == "toy"
    assert metrics()["toy"] is toy


def test_evaluation_computes_a_registered_metric(toy, files):
    image, reference = files
    loaded = load_metrics(["psnr", "toy"], paired=True, resources=Resources())
    scores = measure(EvalItem("image", "", image, reference), loaded)
    assert scores.values["toy"] == 7.0
    assert list(scores.values) == ["psnr", "toy"]


def test_command_line_accepts_a_registered_metric(toy, files):
    image, reference = files
    code, lines, _ = eval_json(str(image), "--reference", str(reference), "--metrics", "toy")
    assert code == 0
    assert lines[0]["values"] == {"toy": 7.0}
    assert lines[-1]["used"] == {"toy": {"better": "less", "implementation": TOY.implementation}}


def test_error_of_a_registered_metric_becomes_a_note(toy, tmp_path):
    write_file(Image(np.zeros((3, 3, 3), np.uint8)), tmp_path / "tiny.png", format="png")
    loaded = load_metrics(["toy"], paired=True, resources=Resources())
    path = tmp_path / "tiny.png"
    assert measure(EvalItem("tiny", "", path, path), loaded).notes == ("Toy: smaller than 4x4",)


def test_registered_name_cannot_be_used_twice(toy):
    with pytest.raises(ValueError, match="'toy' is already registered"):
        register(TOY)


def test_unregistered_metric_is_unknown(files):
    register(TOY)
    unregister("toy")
    assert "toy" not in metric_names()
    with pytest.raises(UsageError, match="unknown metric 'toy'"):
        load_metrics(["toy"], paired=True, resources=Resources())
    code, lines, error = eval_json(str(files[0]), "--metrics", "toy")
    assert (code, lines) == (2, [])
    assert "unknown metric 'toy'" in error
