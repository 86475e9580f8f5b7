from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.app.names import safe_parts


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../../b.png",
        "..\\..\\b.png",
        "nul\0byte.png",
        "line\nbreak.png",
        "",
        "....",
        "\ud800.png",
        "a" * 5000 + ".png",
        "/".join(["deep"] * 500) + "/a.png",
    ],
)
def test_a_hostile_name_stays_inside_the_folder_and_can_be_created(name, tmp_path):
    path = tmp_path.joinpath(*safe_parts(name))
    assert path.resolve().is_relative_to(tmp_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")


@given(st.text(st.characters(exclude_categories=[])))
def test_no_part_leads_elsewhere(name):
    for part in safe_parts(name):
        assert part not in ("", ".", "..")
        assert not set("/\\\0") & set(part)
        assert len(part.encode()) <= 255
        assert Path(part).name == part


def test_an_ordinary_name_is_kept():
    assert safe_parts("holiday/Ünter dem Meer (1).JPG") == ("holiday", "Ünter dem Meer (1).JPG")
    assert safe_parts('<img src=x onerror="a()">.png') == ('<img src=x onerror="a()">.png',)


def test_the_suffix_of_a_long_name_is_kept():
    assert safe_parts("ü" * 300 + ".jpeg")[0].endswith("ü.jpeg")
