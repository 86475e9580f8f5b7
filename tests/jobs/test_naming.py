from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

import pytest

from upscale.errors import UsageError
from upscale.jobs.naming import (
    NameFields,
    check_template,
    model_label,
    render,
    short_scale,
    strip_size_suffix,
)

FIELDS = NameFields(
    stem="photo",
    suffix="png",
    folder="holiday",
    scale="2.5",
    model="realesrgan-x4plus",
    width=1920,
    height=1080,
    ext="jpg",
)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{stem}_x{scale}.{ext}", "photo_x2.5.jpg"),
        ("{stem}_{width}x{height}.{ext}", "photo_1920x1080.jpg"),
        ("{model}/{stem}.{ext}", "realesrgan-x4plus/photo.jpg"),
        ("{folder}/{stem}_{suffix}.{ext}", "holiday/photo_png.jpg"),
        ("{stem} large", "photo large.jpg"),
        ("v1.2 {stem}", "v1.2 photo.jpg"),
        ("{stem}.jpeg", "photo.jpeg"),
        ("{{{stem}}}", "{photo}.jpg"),
    ],
)
def test_template_is_rendered(template, name):
    assert render(template, FIELDS) == name


@pytest.mark.parametrize(
    "template",
    [
        "{nothing}",
        "{}",
        "{0}",
        "{stem.__class__}",
        "{stem[0]}",
        "{stem!r}",
        "{width:09d}",
        "{stem",
        "stem}",
        "/tmp/{stem}",
        "../{stem}",
        "a/../../{stem}",
        "",
        ".",
    ],
)
def test_unsafe_or_unknown_templates_are_usage_errors(template):
    with pytest.raises(UsageError) as caught:
        check_template(template)
    assert "\n" not in str(caught.value)


def test_template_must_not_end_in_another_format():
    with pytest.raises(UsageError, match="-f png"):
        render("{stem}.png", FIELDS)


@pytest.mark.parametrize(
    ("scale", "text"), [(4, "4"), (4.0, "4"), (2.5, "2.5"), (10 / 3, "3.333"), (0.5, "0.5")]
)
def test_scales_have_at_most_four_digits(scale, text):
    assert short_scale(scale) == text


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("realesrgan-x4plus", "realesrgan-x4plus"),
        ("some/folder/mine.pth", "mine"),
        ("a/b", "a_b"),
        ("C:\\nets\\b", "C__nets_b"),
    ],
)
def test_model_label_has_no_separators(model, label):
    assert model_label(model) == label


@pytest.mark.parametrize(
    ("stem", "stripped"),
    [("photo_x4", "photo"), ("in/photo_x2.5", "in/photo"), ("a_640x480", "a"), ("a_b", "a_b")],
)
def test_size_suffix_of_default_names_is_stripped(stem, stripped):
    assert strip_size_suffix(stem) == stripped


@pytest.mark.parametrize("model", ["...safetensors", "..", ".", "....pth", " ", "a/..", "x\n"])
@pytest.mark.parametrize("template", ["{model}/x.{ext}", "{model}/{model}/x.{ext}", "{model}"])
def test_label_of_a_model_never_leads_out_of_the_folder(model, template):
    name = render(template, replace(FIELDS, model=model_label(model)))
    parts = PurePath(name).parts
    assert not {"..", "."} & set(parts)
    assert len(parts) == 1 + template.count("/")


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("{stem}/x.{ext}", {"stem": ".."}),
        ("{folder}/{stem}.{ext}", {"folder": ""}),
        ("{folder}/x.{ext}", {"folder": ".."}),
        ("{stem}{suffix}/x.{ext}", {"stem": ".", "suffix": "."}),
    ],
)
def test_fields_that_lead_out_of_the_folder_are_refused(template, fields):
    with pytest.raises(UsageError, match="would write outside the output folder"):
        render(template, replace(FIELDS, **fields))
