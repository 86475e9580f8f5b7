"""Help pages: choices come from the code that defines them, and options are declared once."""

from __future__ import annotations

import ast
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.rich_utils import rich_format_help

from upscale.checkpoints import catalog
from upscale.cli import shared_options
from upscale.cli.commands import COMMANDS
from upscale.cli.examples import EXAMPLES
from upscale.cli.help_layout import print_page
from upscale.cli.image import app
from upscale.metrics.registry import metrics
from upscale.options import PRECISIONS
from upscale.video.encoders import codec_names
from upscale.video.purposes import PURPOSES

CLI = Path(shared_options.__file__).parent
DENOISE_NETWORKS = tuple(
    f"{entry.name} (default: {entry.denoise:g})"
    for entry in catalog().values()
    if entry.denoise_partner
)
PURPOSES_WITH_SUMMARIES = tuple(f"{name} ({each.summary})" for name, each in PURPOSES.items())


@pytest.fixture
def help_of(call, capsys, monkeypatch):
    """Return a help page on one line, without the frames of its panels."""
    monkeypatch.setenv("COLUMNS", "200")

    def help_of(*command: str) -> str:
        assert call(*command, "--help").code == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    return help_of


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ((), PRECISIONS),
        (("video",), PRECISIONS),
        (("video",), codec_names()),
        (("video",), PURPOSES_WITH_SUMMARIES),
        ((), DENOISE_NETWORKS),
        (("eval", "files"), tuple(metrics())),
        (("eval", "models"), tuple(metrics())),
    ],
)
def test_a_page_lists_all_choices(command, choices, help_of):
    assert ", ".join(choices) in help_of(*command)


def test_every_command_has_examples_that_parse():
    assert set(EXAMPLES) == {"upscale", *(f"upscale {name}" for name in COMMANDS)}
    for text in (text for examples in EXAMPLES.values() for text, _ in examples):
        program, *words = shlex.split(text)
        assert program == "upscale"
        if words[0] == "help":
            assert words[1] in COMMANDS
            continue
        command = COMMANDS.get(words[0])
        parser = typer.main.get_command(app if command is None else command.load())
        arguments = words if command is None else words[1:]
        action = parser.main(list(arguments), prog_name="upscale", standalone_mode=False)
        assert callable(action), text


def test_a_page_shows_its_examples(help_of):
    for name, examples in EXAMPLES.items():
        page = help_of(*name.split()[1:])
        for text, purpose in examples:
            assert f"{purpose} {text}" in page


@pytest.mark.parametrize("command", [("degrade",), ("eval", "models")])
def test_a_page_lists_all_degradation_chains(command, help_of):
    from upscale_training.degraded_sample import CHAINS

    listed = [name.split()[0] for name in shared_options.CHAINS.split(", ")]
    assert listed[: len(CHAINS)] == list(CHAINS)
    assert shared_options.CHAINS in help_of(*command)


def test_pages_show_no_python_types(help_of):
    for name in ("", *COMMANDS):
        page = help_of(*filter(None, [name]))
        assert "<bool>" not in page and "list[" not in page


def test_every_option_has_a_help_text_that_ends_with_a_full_stop():
    commands = [typer.main.get_command(app)]
    commands += [typer.main.get_command(command.load()) for command in COMMANDS.values()]
    commands += [sub for command in commands for sub in getattr(command, "commands", {}).values()]
    for command in commands:
        assert (command.help or "").rstrip().endswith((".", "..")), command.name
        for parameter in command.params:
            assert parameter.help.endswith((".", "?")), (command.name, parameter.name)


def toy_group() -> typer.Typer:
    """A group with all that the pages of `upscale` have."""
    app = typer.Typer(rich_markup_mode="rich", epilog="Ends with `-x` and --long.")

    @app.command(epilog="More about --speed.")
    def first(
        *,
        names: Annotated[list[str], typer.Argument(metavar="NAME", help="Files to read.")],
        folder: Annotated[str, typer.Option("-o", "--output", metavar="OUT|DIR", help="Result.")],
        speed: Annotated[
            int, typer.Option("--speed", min=1, metavar="N", help="As `-q` does. " * 12)
        ] = 3,
        share: Annotated[
            float, typer.Option(min=0, max=1, help="A share.", rich_help_panel="Others")
        ] = 0.5,
        most: Annotated[
            int | None, typer.Option(max=9, help="At most 9.", rich_help_panel="Others")
        ] = None,
        token: Annotated[str, typer.Option(envvar="TOKEN", help="Secret <TEXT>.")] = "a",
        sound: Annotated[
            bool,
            typer.Option("-s/-n", "--sound/--no-sound", help="Keep sound.", show_default=False),
        ] = True,
        quiet: Annotated[bool, typer.Option("--quiet", help="Print less.")] = False,
    ) -> None:
        """Do the first thing with --output.

        And tell more of it.

        In three paragraphs.
        """

    @app.command(rich_help_panel="Rare")
    def second() -> None:
        """Do the other thing.

        Not shown in the list.
        """

    return app


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("subcommand", [None, "first", "second"])
def test_pages_look_like_those_of_typer(subcommand, columns, colour, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", colour)
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    group = typer.main.get_command(toy_group())
    command = group if subcommand is None else group.commands[subcommand]
    context = typer.Context(command, info_name="toy")
    rich_format_help(obj=command, ctx=context, markup_mode="rich")
    expected = capsys.readouterr().out
    assert ("\x1b[" in expected) == colour
    print_page(command, context)
    assert capsys.readouterr().out == expected


def test_brackets_are_part_of_a_help_text(help_of):
    assert "Needs upscale[ray]." in help_of()


def test_an_option_with_the_same_help_is_declared_only_once():
    """Help texts of options, wherever they are declared, differ."""
    texts = Counter(
        ast.literal_eval(keyword.value)
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "help" and isinstance(keyword.value, ast.Constant)
    )
    assert len(texts) > 20
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("a.png", "--precision", "fp8"), PRECISIONS),
        (("video", "a.mp4", "b.mp4", "--precision", "fp8"), PRECISIONS),
    ],
)
def test_an_unknown_choice_is_answered_with_all_choices(arguments, choices, call):
    ended = call(*arguments)
    assert ended.code == 2
    assert f"choose from {', '.join(choices)}" in ended.err
