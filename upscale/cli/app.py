"""Parse the command line, run the command, and turn errors into messages and exit codes.

The default command is not a member of a command group: a first argument that names a subcommand
selects it, and everything else belongs to the default command. Parsing returns an action, which
runs outside Typer, because Typer turns an interrupt into an exception of its own.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import cast

import typer

from upscale.cli.commands import find_command
from upscale.cli.session import Action, Session
from upscale.dependencies import find_import_problem
from upscale.errors import ExitCode, UpscaleError, UsageError

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
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror}"
    return f"internal error: {type(error).__name__}: {error}; run again with -v for details"


def _run_command(arguments: Sequence[str], session: Session) -> int:
    command = find_command(arguments[0]) if arguments else None
    if command is not None:
        program, rest = f"upscale {arguments[0]}", list(arguments[1:])
        app = command.load()
    else:
        from upscale.cli.image import app

        program, rest = "upscale", list(arguments) or ["--help"]
    action = _parse(app, rest, program, session)
    return int(action) if isinstance(action, int) else action(session)


def _parse(app: typer.Typer, arguments: list[str], program: str, session: Session) -> Action | int:
    """Return the action to run, or the exit code if parsing ends the program, as for `--help`."""
    command = typer.main.get_command(app)
    if "--help" in arguments:
        from upscale.cli.help_pages import complete

        complete(command)
    try:
        result = command.main(arguments, prog_name=program, standalone_mode=False, obj=session)
    except _ParsingError as error:
        message = cast(str, getattr(error, "format_message")()).rstrip(".")  # noqa: B009
        raise UsageError(f"{message}; see {program} --help") from error
    return cast(Action | int | None, result) or 0
