"""From arguments to an exit code: which command, its parsing, and how errors are shown.

The default command is not a member of a command group: a first argument that names a command
selects it, everything else belongs to the default command. Each command is a module that is
imported only when it is chosen. Parsing returns an action; it runs outside Typer, which would
turn an interrupt into an exception of its own.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import cast

import typer

from upscale.cli.commands import COMMANDS
from upscale.cli.session import Action, Session
from upscale.errors import ExitCode, UpscaleError, UsageError

# Typer's parsing errors share this base (click's ClickException in older releases), which has no
# public name of its own.
_ParsingError = cast(type[Exception], typer.BadParameter.__mro__[2])


def run(arguments: Sequence[str], session: Session) -> int:
    """Run the program with `arguments` (without its own name) and return the exit code."""
    try:
        return _dispatch(arguments, session)
    except UpscaleError as error:
        session.error(str(error), traceback.format_exc())
        return int(error.exit_code)
    except KeyboardInterrupt:
        session.say("interrupted: finished outputs are whole")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        session.close_stdout()
        return int(ExitCode.FAILED)
    except OSError as error:
        session.error(f"{error.filename or 'file'}: {error.strerror}", traceback.format_exc())
        return int(ExitCode.FAILED)
    except Exception as error:  # a fault of ours still ends in one line
        text = f"internal error: {type(error).__name__}: {error}; run again with -v"
        session.error(text, traceback.format_exc())
        return int(ExitCode.FAILED)


def _dispatch(arguments: Sequence[str], session: Session) -> int:
    if arguments and arguments[0] in COMMANDS:
        program, rest = f"upscale {arguments[0]}", list(arguments[1:])
        app = COMMANDS[arguments[0]].load()
    else:
        from upscale.cli.image import app

        program, rest = "upscale", list(arguments) or ["--help"]
    action = _parse(app, rest, program, session)
    return int(action) if isinstance(action, int) else action(session)


def _parse(app: typer.Typer, arguments: list[str], program: str, session: Session) -> Action | int:
    """Return what to do, or the exit code where parsing has done it (as for `--help`)."""
    command = typer.main.get_command(app)
    try:
        found = command.main(arguments, prog_name=program, standalone_mode=False, obj=session)
    except _ParsingError as error:
        message = cast(str, getattr(error, "format_message")()).rstrip(".")  # noqa: B009
        raise UsageError(f"{message}; see {program} --help") from error
    return cast(Action | int | None, found) or 0
