"""The documentation builds without a warning, and every command is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    """Pages load no script, style, font or image from another server."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    loaded = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
        r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect)[^>]*href=[\"']?(?:https?:)?//"
        r"|<link\b[^>]*href=[\"']?(?:https?:)?//[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect)"
    )
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page


def test_every_command_and_option_is_on_the_page(site):
    from upscale.cli.commands import COMMANDS

    page = (site / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    for name in COMMANDS:
        assert f"upscale {name}" in text
    for option in ("--scale", "--codec", "--replay", "--metric-files", "--alpha", "--rounds"):
        assert option in text


def test_the_python_page_shows_classes_functions_and_examples(site):
    page = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    for name in ("Upscaler", "load_model", "read_file", "psnr", "Architecture", "UsageError"):
        assert re.search(rf'id="upscale\.[\w.]*{name}"', page), name
    assert "&gt;&gt;&gt; upscaler" in text or ">>> upscaler" in text


def test_pages_of_the_repository_are_on_the_site(site):
    for page, words in {
        "changelog": "Keep a Changelog",
        "contributing": ".ci/run",
        "security": "Report",
        "benchmarks": "seam error",
        "reference/model-cards": "upscale-x1",
    }.items():
        assert words in (site / page / "index.html").read_text(encoding="utf-8"), page


def test_a_link_to_a_missing_file_fails():
    from importlib.util import module_from_spec, spec_from_file_location

    from mkdocs.exceptions import PluginError

    spec = spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec and spec.loader
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = "[a](../reference/json.md#fields) [b](../../LICENSE) [c](https://x.invalid/y.md)"
    assert hooks.rewrite_links(text, "how-to/photos.md") == (
        "[a](../reference/json.md#fields) b [c](https://x.invalid/y.md)"
    )
    assert hooks.rewrite_links("[x](../docs/how-to/photos.md)", "benchmarks.md") == (
        "[x](how-to/photos.md)"
    )
    with pytest.raises(PluginError, match=r"gone\.md"):
        hooks.rewrite_links("[a](gone.md)", "how-to/photos.md")
