"""Tables in the README and the documentation equal what the code does."""

from __future__ import annotations

import re

from tests.docs.pages import README, ROOT, table
from upscale.checkpoints import catalog
from upscale.images.codecs.registry import Codec, codecs

PARTNER = "realesr-general-wdn-x4v3"
"""The partner network of --denoise, which is not for use alone."""


def test_the_table_of_networks_equals_the_catalogue():
    rows = {
        re.findall(r"`([\w-]+)`", row[0])[0]: tuple(row[1:5]) for row in table(README, "networks")
    }
    expected = {
        name: (
            str(entry.scale),
            f"{entry.size / 1e6:.0f} MB{', download' if entry.url else ''}",
            entry.licence,
        )
        for name, entry in catalog().items()
        if name != PARTNER
    }
    assert {name: (scale, size, licence) for name, (scale, size, _, licence) in rows.items()} == (
        expected
    )


def test_the_number_of_networks_that_work_offline_equals_the_catalogue():
    words = ("three", "four", "five", "six", "seven", "eight", "nine", "ten")
    offline = sum(entry.url is None for entry in catalog().values())
    text = README.read_text(encoding="utf-8")
    assert f"**Networks**: {words[offline - 3]} work offline" in text


def test_the_table_of_networks_with_denoise_equals_the_catalogue():
    page = (ROOT / "docs/how-to/choosing-a-network.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| ([\d.]+) \|$", page, re.MULTILINE)
    assert rows == [
        (entry.name, entry.denoise_partner, f"{entry.denoise:g}")
        for entry in catalog().values()
        if entry.denoise_partner
    ]


def test_the_table_of_licences_equals_the_catalogue():
    rows = table(ROOT / "docs/reference/licences.md", "licences")
    assert {row[0].strip("`"): (row[1], row[2]) for row in rows} == {
        name: (entry.licence, entry.author) for name, entry in catalog().items()
    }


def test_texts_about_licences_name_the_exceptions():
    """The README's sentence names each network whose licence is not that of the others."""
    text = README.read_text(encoding="utf-8").partition("## Licence")[2]
    licences = {name: entry.licence for name, entry in catalog().items()}
    assert {name for name, licence in licences.items() if licence == "MIT"} == {"upscale-x1"}
    others = {name for name, licence in licences.items() if licence != "BSD-3-Clause"}
    cc_by = {name for name, licence in licences.items() if licence == "CC-BY-4.0"}
    assert others == {"upscale-x1", "realsr-df2k", *cc_by}
    assert len(cc_by) == 4 and "and CC-BY-4.0" in text
    assert all(f"`{name}`" in text for name in others)
    assert licences["realsr-df2k"] == "Apache-2.0 (authors), MIT (package)"
    assert "`upscale-x1` was trained from scratch and is MIT" in " ".join(text.split())


def format_row(codec: Codec) -> list[str]:
    """Return the row of the documentation for a format."""
    traits = codec.traits
    assert traits is not None
    bits = {32: "8, 16, float", 16: "8, 16", 12: "8, 10, 12", 8: "8"}[traits.depth]
    bits = "float" if traits.is_linear else bits
    cells = [
        codec.label,
        "256 colours"
        if not traits.lossy and not traits.lossless
        else "float"
        if traits.is_linear
        else bits,
        "one channel" if traits.grey else "as RGB",
        {"none": "", "binary": "on or off", "full": "yes"}[traits.alpha],
        {"one": "", "animation": "animation", "pages": "pages"}[traits.frames],
        "" if not traits.lossless else "`--lossless`" if traits.lossy else "always",
    ]
    fields = ("icc", "exif", "xmp", "iptc", "dpi", "comment")
    return cells + ["yes" if field in traits.carries else "" for field in fields]


def test_the_table_of_formats_equals_the_traits():
    """The other half of the proof is tests/images/test_traits.py."""
    rows = table(ROOT / "docs/reference/formats.md", "formats")
    assert rows == [format_row(codec) for codec in codecs().values() if codec.traits]


def test_every_benchmark_that_results_name_exists():
    results = (ROOT / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    names = set(re.findall(r"python -m benchmarks\.(\w+)", results))
    assert len(names) > 10
    assert [name for name in names if not (ROOT / f"benchmarks/{name}.py").is_file()] == []


def test_speeds_in_the_readme_equal_the_results():
    """The column "speed" of the README is that of the benchmark."""
    results = (ROOT / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    section = results.partition("## Speed of the networks")[2].partition("\n## ")[0]
    measured = {
        name: row[2]
        for names, *row in re.findall(
            r"^\| ([\w, -]+) \| (\d) \| ([\d.]+) \| ([\d.]+x) \|$", section, re.MULTILINE
        )
        for name in names.split(", ")
    }
    rows = table(README, "networks")
    assert {re.findall(r"`([\w-]+)`", row[0])[0]: row[3] for row in rows} == measured
