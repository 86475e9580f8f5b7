"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscale.cli.session import Session


def _set_verbose(context: typer.Context, wanted: bool | None) -> bool | None:
    session = context.obj
    if isinstance(session, Session):
        session.verbose = session.verbose or bool(wanted)
    return wanted


Verbose = Annotated[
    bool | None,
    typer.Option(
        "-v",
        "--verbose",
        metavar="",
        callback=_set_verbose,
        is_eager=True,
        rich_help_panel="Messages",
        show_default=False,
        help="Print more, and the traceback of an error.",
    ),
]


def text(*names: str, metavar: str, help: str, panel: str) -> Any:  # noqa: ANN401
    """An option whose value is checked later, by whichever source it comes from."""
    return typer.Option(
        *names, metavar=metavar, help=help, rich_help_panel=panel, show_default=False
    )


def switch(*names: str, help: str, panel: str) -> Any:  # noqa: ANN401
    """An option without a value."""
    return typer.Option(*names, metavar="", help=help, rich_help_panel=panel, show_default=False)
