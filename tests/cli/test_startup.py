from __future__ import annotations

import subprocess
import sys

import pytest

from upscale import __version__
from upscale.options import option_names

HEAVY = (
    "torch",
    "numpy",
    "cv2",
    "PIL",
    "av",
    "tifffile",
    "safetensors",
    "requests",
    "starlette",
    "uvicorn",
    "rich.markdown",
    "rich.traceback",
    "markdown_it",
    "pygments",
)
"""Modules that help pages do not need, each slower to import than a page is to print."""


def test_help_pages_and_the_version_import_nothing_heavy():
    script = (
        "import sys\n"
        "from upscale.cli.app import run\n"
        "from upscale.cli.session import Session\n"
        "for line in ['--version', '--help', 'video --help', 'eval files --help']:\n"
        "    assert run(line.split(), Session.of_process()) == 0\n"
        f"    found = [name for name in {HEAVY} if name in sys.modules]\n"
        "    assert not found, (line, found)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_dry_run_does_not_import_torch(photo):
    script = (
        "import sys\n"
        "from upscale.cli.app import run\n"
        "from upscale.cli.session import Session\n"
        "assert run([sys.argv[1], '--dry-run'], Session.of_process()) == 0\n"
        "print('torch' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, photo("a.png")], capture_output=True, text=True, check=False
    )
    assert ended.stdout.splitlines()[-1] == "False", ended.stderr


def test_an_image_needs_neither_downloads_nor_ffmpeg(photo, tmp_path):
    script = (
        "import sys\n"
        "from upscale.cli.app import run\n"
        "from upscale.cli.session import Session\n"
        "line = [sys.argv[1], '-o', sys.argv[2], '-n', 'upscale-x4-fast', '--device', 'cpu']\n"
        "assert run(line, Session.of_process()) == 0\n"
        "print([name for name in ('torch', 'requests', 'av') if name in sys.modules])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, photo("a.png"), tmp_path / "b.png"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines()[-1] == "['torch']", ended.stderr


def test_without_arguments_the_help_lists_all_options_and_commands(call, capsys):
    assert call().code == 0
    page = capsys.readouterr().out
    assert call("--help").code == 0
    assert capsys.readouterr().out == page
    for name in set(option_names()) - {"steady"}:  # for videos only
        assert "--" + name.replace("_", "-") in page
    assert call("video", "--help").code == 0
    assert "--steady" in capsys.readouterr().out
    assert "doctor" in page
    assert "models" in page


@pytest.mark.parametrize("command", [["models"], ["models", "pull"], ["doctor"]])
def test_every_command_has_a_help(command, call, capsys):
    assert call(*command, "--help").code == 0
    assert "Usage: upscale " + " ".join(command) in capsys.readouterr().out


def test_the_version_is_one_line(call):
    ended = call("--version")
    assert (ended.code, ended.out) == (0, f"upscale {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["a.png", "-s"],
        ["a.png", "-s", "four"],
        ["a.png", "-s", "2", "--width", "5"],
        ["a.png", "--tile", "8"],
        ["a.png", "--overwrite", "--skip-existing"],
        ["a.png", "-o", "b.xyz"],
        ["a.png", "-f", "psd"],
        ["-s", "2"],
        [""],
        ["models", "nonsense"],
        ["models", "pull"],
        ["models", "pull", "nonsense"],
        ["models", "blend", "a", "b"],
        ["models", "blend", "a", "b", "--alpha", "2", "-o", "c.safetensors"],
        ["doctor", "extra"],
    ],
)
def test_invalid_usage_is_one_line_and_exit_code_2(arguments, call):
    ended = call(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


def test_verbose_prints_the_traceback_of_invalid_usage(call):
    assert "Traceback" in call("a.png", "-v", "-s", "0").err
    assert "Traceback" in call("models", "info", "nonsense", "-v").err
