"""The options that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscale.cli.completion import networks, one_of
from upscale.cli.session import Session
from upscale.options import (
    DEFAULT_MODEL,
    PRECISIONS,
    SMALLEST_TILE,
    Options,
    load_options,
    option_names,
)

OUTPUT, SIZE, NETWORK, INPUT, GENERAL = "Output", "Size", "Network", "Input", "General"
"""Titles of the panels of help pages."""

CHAINS = "real-esrgan, classical (bicubic), generic, or the .yaml file of a recipe"
"""Degradation chains for help pages; importing the code that knows them would import torch."""


def option(*names: str, metavar: str, help: str, panel: str, **more: Any) -> Any:  # noqa: ANN401
    """Declare an option with a value; `more` goes to `typer.Option`."""
    settings: dict[str, Any] = {"show_default": False, **more}
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **settings)


def switch(*names: str, help: str, panel: str) -> Any:  # noqa: ANN401
    """Declare an option without a value."""
    return option(*names, metavar="", help=help, panel=panel)


def output(metavar: str, help: str) -> Any:  # noqa: ANN401
    """Declare `-o`, whose meaning depends on the command."""
    return option("-o", "--output", metavar=metavar, help=help, panel=OUTPUT)


def resolve_options(
    context: typer.Context, session: Session, *, output: str | None = None
) -> Options:
    """Merge a command's options with the environment and the configuration file.

    Args:
        context: Parsed command line.
        session: Environment.
        output: Output that the command line names without `-o`.

    Raises:
        UsageError: A value is invalid, or options cannot be combined.
    """
    names = option_names()
    flags = {name: value for name, value in context.params.items() if name in names}
    if output is not None:
        flags["output"] = output
    options = load_options(flags, session.environ)
    session.verbose = options.report.verbose
    return options


def _set_verbose(context: typer.Context, value: bool | None) -> bool | None:
    session = context.obj
    if isinstance(session, Session):
        session.verbose = session.verbose or bool(value)
    return value


# Values stay text until `resolve_options` checks them, wherever they come from.

Scale = Annotated[
    str | None,
    option("-s", "--scale", metavar="N", panel=SIZE,
           help="Upscale by a factor of N, for example 4 or 2.5. Default: the network's scale."),
]  # fmt: skip
Width = Annotated[
    str | None,
    option("--width", metavar="PIXELS", panel=SIZE,
           help="Output width. Without --height, the aspect ratio is kept."),
]  # fmt: skip
Height = Annotated[
    str | None,
    option("--height", metavar="PIXELS", panel=SIZE,
           help="Output height. Without --width, the aspect ratio is kept."),
]  # fmt: skip
MaxSide = Annotated[
    str | None,
    option("--max-side", metavar="PIXELS", panel=SIZE, help="Length of the longer output side."),
]
Model = Annotated[
    str | None,
    option("-n", "--model", metavar="NAME|FILE", panel=NETWORK, autocompletion=one_of(networks),
           help=f"Network to use: a name from `upscale models`, or a checkpoint file. "
           f"Default: {DEFAULT_MODEL}."),
]  # fmt: skip
Tile = Annotated[
    str | None,
    option("-t", "--tile", metavar="auto|0|N", panel=NETWORK,
           autocompletion=one_of(lambda: ("auto",)),
           help=f"Tile size in input pixels, at least {SMALLEST_TILE}; 0 disables tiling. Smaller "
           "tiles need less memory; the output is the same. Default: auto."),
]  # fmt: skip
Device = Annotated[
    str | None,
    option("--device", metavar="DEVICE", panel=NETWORK,
           autocompletion=one_of(lambda: ("auto", "cpu", "cuda", "cuda:0", "mps")),
           help="Device to compute on: auto, cpu, cuda, cuda:N or mps. To share images or a video "
           "among several devices, list them: cuda:0,cuda:1. Default: auto."),
]  # fmt: skip
Precision = Annotated[
    str | None,
    option("--precision", metavar="PRECISION", panel=NETWORK,
           autocompletion=one_of(lambda: PRECISIONS),
           help=f"Precision of the computation: {', '.join(PRECISIONS)}. Default: auto."),
]  # fmt: skip
Kernels = Annotated[
    bool | None,
    switch("--kernels/--no-kernels", panel=NETWORK,
           help="Use compiled convolutions where they are faster than PyTorch's. Default: on."),
]  # fmt: skip
Tta = Annotated[
    bool | None,
    switch("-x", "--tta", panel=NETWORK,
           help="Test-time augmentation: average the results of 8 flips and rotations. "
           "8 times slower."),
]  # fmt: skip
Denoise = Annotated[
    str | None,
    option("--denoise", metavar="0..1", panel=NETWORK,
           help="Denoising strength, for networks that support it (realesr-general-x4v3)."),
]  # fmt: skip
Recursive = Annotated[
    bool | None,
    switch("-r", "--recursive", panel=INPUT,
           help="Include subfolders; symbolic links to folders are not followed."),
]  # fmt: skip
MaxPixels = Annotated[
    str | None,
    option("--max-pixels", metavar="N", panel=INPUT,
           help="Reject images or video frames with more than N pixels (protects against "
           "malicious files)."),
]  # fmt: skip
MaxOutputPixels = Annotated[
    str | None,
    option("--max-output-pixels", metavar="N", panel=SIZE,
           help="Ask before an output with more than N pixels is computed. Default: 500000000, the "
           "most that is read again without --max-pixels."),
]  # fmt: skip
Yes = Annotated[
    bool | None,
    switch("--yes", panel=SIZE, help="Compute outputs of any size without asking."),
]
Overwrite = Annotated[
    bool | None, switch("--overwrite", panel=OUTPUT, help="Overwrite existing output files.")
]
Json = Annotated[
    bool | None,
    switch("--json", panel=GENERAL, help="Print results as JSON, one object per line."),
]
Quiet = Annotated[
    bool | None, switch("--quiet", panel=GENERAL, help="Print nothing except errors.")
]
Verbose = Annotated[
    bool | None,
    typer.Option(
        "-v", "--verbose", metavar="", callback=_set_verbose, is_eager=True, show_default=False,
        rich_help_panel=GENERAL, help="Print more details, and tracebacks of errors.",
    ),
]  # fmt: skip
