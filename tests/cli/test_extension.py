"""A command that another package adds, as docs/contributing describes."""

from __future__ import annotations

import os

import pytest

MODULE = '''
"""A toy command."""

from typing import Annotated

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Quiet, Verbose, resolve_options

app = typer.Typer(add_completion=False)


@app.command()
def hello(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Person to greet.")],
    quiet: Quiet = None,
    verbose: Verbose = None,
) -> Action:
    """Greet a person.

    This is a second paragraph.
    """

    def action(session: Session) -> int:
        if not resolve_options(context, session).report.quiet:
            session.out(f"Hello, {name}!")
        return 0

    return action
'''


@pytest.fixture
def install(tmp_path, program_environment):
    """Install a package with one command and return the environment that finds it."""

    def install(module: str, entry_point: str) -> dict[str, str]:
        site = tmp_path / "site"
        metadata = site / "toy-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / "toy_commands.py").write_text(module)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[upscale.commands]\n{entry_point}\n")
        path = os.pathsep.join([program_environment["PYTHONPATH"], str(site)])
        return program_environment | {"PYTHONPATH": path}

    return install


def test_an_installed_command_is_listed_and_runs_with_shared_options(install, program):
    environment = install(MODULE, "hello = toy_commands:app")
    page = program("--help", env=environment)
    assert page.code == 0, page.err
    (line,) = [line for line in page.out.splitlines() if " hello " in line]
    assert "Greet a person." in line and "second paragraph" not in line
    assert "Usage: upscale hello" in program("hello", "--help", env=environment).out
    ended = program("hello", "Ada", env=environment)
    assert (ended.code, ended.out, ended.err) == (0, "Hello, Ada!\n", "")
    assert program("hello", "Ada", env=environment | {"UPSCALE_QUIET": "1"}).out == ""
    wrong = program("hello", env=environment)
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


def test_a_command_that_cannot_be_imported_does_not_break_the_help(install, program):
    environment = install("import no_such_module\n", "hello = toy_commands:app")
    page = program("--help", env=environment)
    assert page.code == 0, page.err
    assert "Cannot be loaded: ModuleNotFoundError" in page.out
    assert "Check the installation" in page.out
    ended = program("hello", env=environment)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "no_such_module" in ended.err


def test_an_installed_command_does_not_replace_a_built_in_one(install, program):
    environment = install(MODULE, "compare = toy_commands:app")
    assert "HTML page" in program("compare", "--help", env=environment).out
    assert "Greet" not in program("--help", env=environment).out


def test_an_installed_command_may_take_addresses(install, program):
    environment = install(MODULE, "hello = toy_commands:app")
    ended = program("hello", "https://example.com/", env=environment)
    assert (ended.code, ended.out, ended.err) == (0, "Hello, https://example.com/!\n", "")
