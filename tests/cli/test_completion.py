"""Shell completion: the protocol of the generated scripts, and the scripts in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from upscale.checkpoints import catalog
from upscale.cli.commands import COMMANDS
from upscale.images.formats import writable_traits
from upscale.video.encoders import codec_names

needs_bash = pytest.mark.skipif(
    os.name == "nt" or shutil.which("bash") is None, reason="needs bash"
)


@pytest.fixture
def complete(tmp_path, program_environment):
    """Return the completions of the last word of a line, as bash asks for them."""

    def complete(*words: str) -> list[str]:
        request = {"COMP_WORDS": " ".join(("upscale", *words)), "COMP_CWORD": str(len(words))}
        ended = subprocess.run(
            [sys.executable, "-m", "upscale"],
            cwd=tmp_path,
            env=program_environment | request | {"_UPSCALE_COMPLETE": "complete_bash"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.split()

    return complete


def test_commands_are_completed_as_the_first_word_only(complete):
    assert set(complete("")) >= set(COMMANDS)
    assert complete("vi") == ["video"]
    assert complete("photo.jpg", "vi") == []


def test_subcommands_are_completed(complete):
    assert complete("models", "p") == ["pull"]
    assert complete("eval", "m") == ["models", "metrics"]


def test_options_of_the_command_are_completed(complete):
    assert complete("photo.jpg", "--skip") == ["--skip-existing"]
    assert complete("video", "a.mp4", "--enc") == ["--encoder-option"]
    assert complete("models", "blend", "--al") == ["--alpha"]


def test_values_are_completed_where_they_are_known(complete):
    assert complete("photo.jpg", "--format", "") == list(writable_traits())
    assert complete("photo.jpg", "-n", "realesr-") == [
        name for name in catalog() if name.startswith("realesr-")
    ]
    assert complete("photo.jpg", "-n", "aut") == ["auto"]
    assert complete("photo.jpg", "--models", "auto,realsr-") == ["auto,realsr-df2k"]
    assert complete("video", "a.mp4", "b.mp4", "--codec", "") == list(codec_names())
    assert complete("photo.jpg", "--precision", "f") == ["fp32", "fp16"]
    assert complete("bench", "upscale-x1") == ["upscale-x1"]
    assert complete("eval", "x.png", "--metrics", "psnr,niq") == ["psnr,niqe"]


def test_file_names_are_left_to_the_shell(complete, photo):
    photo("photo.jpg")
    assert complete("pho") == []
    assert complete("photo.jpg", "-o", "pho") == []
    assert complete("video", "pho") == []


@pytest.mark.parametrize(
    ("shell", "variables", "expected"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "upscale vi"}, 'video":"Upscale videos.'),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "upscale vi", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "video\tUpscale videos.",
        ),
        (
            "powershell",
            {"_TYPER_COMPLETE_ARGS": "upscale vi", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "vi"},
            "video:::Upscale videos.",
        ),
    ],
)
def test_other_shells_get_names_and_summaries(shell, variables, expected, program):
    ended = program(env=variables | {"_UPSCALE_COMPLETE": f"complete_{shell}"})
    assert (ended.code, ended.err) == (0, "")
    assert expected in ended.out


@needs_bash
def test_the_script_works_in_bash(tmp_path, program_environment):
    """`--show-completion` prints a script with which bash completes a line."""
    script = tmp_path / "complete.sh"
    folder = tmp_path / "bin"
    folder.mkdir()
    launcher = folder / "upscale"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upscale "$@"\n')
    launcher.chmod(0o755)
    environment = program_environment | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def bash(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--norc", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    # the shell is detected from the parent process, which must stay a bash
    printed = bash("upscale --show-completion > complete.sh; echo $?")
    assert printed.stdout == "0\n", printed.stderr
    assert "complete -o default -F _upscale_completion upscale" in script.read_text()
    done = bash(
        "source complete.sh; COMP_WORDS=(upscale photo.jpg --skip); COMP_CWORD=2; "
        '_upscale_completion upscale; echo "${COMPREPLY[@]}"'
    )
    assert (done.stdout, done.stderr) == ("--skip-existing\n", "")


@needs_bash
def test_the_script_is_installed_for_bash(tmp_path, program_environment):
    environment = program_environment | {"HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "--norc", "-c", f'"{sys.executable}" -m upscale --install-completion; echo $?'],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("0\n"), done.stderr
    installed = tmp_path / ".bash_completions" / "upscale.sh"
    assert "_UPSCALE_COMPLETE=complete_bash" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
