"""Parse the command line, run the command, and turn errors into messages and exit codes.

The default command is not a member of a command group: a first argument that names a subcommand
selects it, and everything else belongs to the default command. Parsing returns an action, which
runs outside Typer, because Typer turns an interrupt into an exception of its own.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import cast

import typer

from upscale.cli.arguments import (
    HELP_OPTIONS,
    check_addresses,
    check_command_name,
    expand_patterns,
    is_windows,
    spell_out_help,
)
from upscale.cli.commands import COMMANDS, find_command
from upscale.cli.foreign_flags import own_flags
from upscale.cli.session import Action, Session
from upscale.dependencies import find_import_problem
from upscale.errors import ExitCode, UpscaleError, UsageError
from upscale.out_of_memory import is_out_of_memory

COMPLETION_VARIABLE = "_UPSCALE_COMPLETE"
"""Set by the completion scripts of the shells, which Typer generates."""

# Typer's parsing errors share this base class, which has no public name.
_ParsingError = cast(type[Exception], typer.BadParameter.__mro__[2])


def run(arguments: Sequence[str], session: Session) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: The words after the program's name.
        session: Streams and environment.
    """
    try:
        return _run_command(arguments, session)
    except UpscaleError as error:
        session.error(str(error), traceback.format_exc())
        return int(error.exit_code)
    except KeyboardInterrupt:
        session.say("interrupted: finished outputs are complete")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        session.close_stdout()
        return int(ExitCode.FAILED)
    except Exception as error:  # a bug must not print a traceback unless -v is given
        session.error(_error_text(error), traceback.format_exc())
        return int(ExitCode.FAILED)


def _error_text(error: Exception) -> str:
    """Return one line for an exception that is not an UpscaleError."""
    problem = find_import_problem(error)
    if problem is not None:
        return str(problem)
    if is_out_of_memory(error):
        return "not enough memory: close other programs, or use a smaller size or --tile"
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}"
    return f"internal error: {type(error).__name__}: {error}; run again with -v for details"


def _run_command(arguments: Sequence[str], session: Session) -> int:
    if request := session.environ.get(COMPLETION_VARIABLE):
        from upscale.cli.completion import answer

        return answer(request)
    words = expand_patterns(arguments) if is_windows() else list(arguments)
    words = spell_out_help(words)
    command = find_command(words[0]) if words else None
    if command is not None:
        program, rest = f"upscale {words[0]}", words[1:]
        if words[0] in COMMANDS:  # a command of another package may take addresses
            check_addresses(rest)
        if words[0] == "video":
            rest = own_flags(rest, "video")
        app = command.load()
    else:
        from upscale.cli.image import app

        if words:
            check_command_name(words[0])
        program, rest = "upscale", own_flags(words, "image") or ["--help"]
    action = _parse(app, rest, program, session)
    if isinstance(action, int):
        return int(action)
    _check_working_folder()
    return action(session)


def _check_working_folder() -> None:
    """Check that the working folder exists; without it, torch cannot be loaded, for example."""
    try:
        os.getcwd()  # noqa: PTH109 -- it is not used as a path
    except FileNotFoundError:
        raise UsageError(
            "the working folder was deleted; change to another one, for example: cd ~"
        ) from None


def _parse(app: typer.Typer, arguments: list[str], program: str, session: Session) -> Action | int:
    """Return the action to run, or the exit code if parsing ends the program, as for `--help`."""
    command = typer.main.get_command(app)
    command.context_settings["help_option_names"] = [*HELP_OPTIONS]
    if not set(HELP_OPTIONS).isdisjoint(arguments):
        from upscale.cli.help_pages import complete

        complete(command, program)
    try:
        result = command.main(arguments, prog_name=program, standalone_mode=False, obj=session)
    except SystemExit as ended:  # of --install-completion and --show-completion
        return int(ended.code or 0)
    except _ParsingError as error:
        message = cast(str, getattr(error, "format_message")()).rstrip(".")  # noqa: B009
        separator = " " if message.endswith("?") else "; "
        raise UsageError(f"{message}{separator}see {program} --help") from error
    return cast(Action | int | None, result) or 0
