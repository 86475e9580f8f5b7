"""The default command: `upscale INPUT... [-o OUT]`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from upscale import __version__
from upscale.cli import shared_options as shared
from upscale.cli.commands import all_commands
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options, switch
from upscale.errors import UsageError
from upscale.options import MOST_JOBS, RunOptions


class _DefaultCommand(TyperCommand):
    """The default command, whose help also lists the subcommands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        super().format_help(ctx, formatter)
        from rich.console import Console
        from rich.panel import Panel
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column()
        for name, command in all_commands().items():
            table.add_row(name, command.summarise())
        panel = Panel(table, title="Commands", title_align="left", border_style="dim")
        Console(file=sys.stdout, markup=False).print(panel)


_EPILOG = (
    "Each option can also be set by an environment variable (--max-side: UPSCALE_MAX_SIDE) or in "
    "the configuration file (max-side = 2048), which is upscale/config.toml in the user's "
    "configuration folder, or the file that UPSCALE_CONFIG names. Command-line options take "
    "precedence over the environment, and the environment over the file. "
    "If an input has the name of a command, write ./NAME."
)
_COMPARISON = "Network comparison"
_TEXTURES = "Textures and panoramas"

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def _print_version(context: typer.Context, value: bool) -> None:
    if value:
        context.obj.out(f"upscale {__version__}")
        raise typer.Exit


@app.command(cls=_DefaultCommand, epilog=_EPILOG)
def image(
    context: typer.Context,
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", show_default=False,
                       help="Image files, folders, or - for standard input."),
    ] = None,
    output: Annotated[
        str | None,
        output("OUT", "Output file, or a folder (a new folder must end in /), or - for standard "
               "output. Default: photo_x4.jpg next to photo.jpg."),
    ] = None,
    format: Annotated[
        str | None,
        option("-f", "--format", metavar="FORMAT", panel=shared.OUTPUT,
               help="Output format, for example jpg, png, webp, tiff or avif; `upscale doctor` "
               "lists all. Default: the extension of OUT, or the format of the input."),
    ] = None,
    quality: Annotated[
        str | None,
        option("-q", "--quality", metavar="1..100", panel=shared.OUTPUT,
               help="Quality of lossy formats. Default: 95; for JPEG to JPEG, at least the quality "
               "of the input."),
    ] = None,
    lossless: Annotated[
        bool | None,
        switch("--lossless", panel=shared.OUTPUT,
               help="Use lossless compression in WebP, AVIF, JPEG XL and HEIC."),
    ] = None,
    strip_metadata: Annotated[
        bool | None,
        switch("--strip-metadata", panel=shared.OUTPUT,
               help="Remove EXIF, XMP, IPTC and comments. The colour profile is kept."),
    ] = None,
    name: Annotated[
        str | None,
        option("--name", metavar="TEMPLATE", panel=shared.OUTPUT,
               help="Output file name, for example {stem}_x{scale}.{ext}. Fields: {stem}, {suffix} "
               "and {folder} of the input; {scale}, {model}, {width}, {height} and {ext} of the "
               "output."),
    ] = None,
    overwrite: shared.Overwrite = None,
    skip_existing: Annotated[
        bool | None,
        switch("--skip-existing", panel=shared.OUTPUT, help="Skip inputs whose output exists."),
    ] = None,
    dry_run: Annotated[
        bool | None,
        switch("--dry-run", panel=shared.OUTPUT, help="Print the outputs without writing them."),
    ] = None,
    scale: shared.Scale = None,
    width: shared.Width = None,
    height: shared.Height = None,
    max_side: shared.MaxSide = None,
    model: shared.Model = None,
    tile: shared.Tile = None,
    device: shared.Device = None,
    precision: shared.Precision = None,
    kernels: shared.Kernels = None,
    tta: shared.Tta = None,
    denoise: Annotated[
        str | None,
        option("--denoise", metavar="0..1", panel=shared.NETWORK,
               help="Denoising strength, for networks that support it "
               "(realesr-general-x4v3)."),
    ] = None,
    seamless: Annotated[
        str | None,
        option("--seamless", metavar="x|y|xy", panel=_TEXTURES,
               help="The image repeats from left to right (x, such as a 360-degree panorama), from "
               "top to bottom (y), or both (xy, such as a tiling texture); so does the output, "
               "without a seam."),
    ] = None,
    models: Annotated[
        str | None,
        option("--models", metavar="A,B,...", panel=_COMPARISON,
               help="Upscale with each of these networks and write an HTML page that compares the "
               "results: photo_models.html next to photo.jpg, or -o PAGE.html."),
    ] = None,
    crop: Annotated[
        str | None,
        option("--crop", metavar="CROP", panel=_COMPARISON,
               help="Compare on a part of the image: X,Y,WIDTH,HEIGHT in pixels, or auto for the "
               "part with the most detail."),
    ] = None,
    recursive: shared.Recursive = None,
    files_from: Annotated[
        str | None,
        option("--files-from", metavar="FILE|-", panel=shared.INPUT,
               help="Read input paths from a file, or - for standard input: one per line, or "
               "separated by NUL as `find -print0` writes them."),
    ] = None,
    max_pixels: shared.MaxPixels = None,
    jobs: Annotated[
        str | None,
        option("-j", "--jobs", metavar="N", panel=shared.INPUT,
               help=f"Number of threads that read and write files, 1 to {MOST_JOBS}. "
               f"Default: {RunOptions().jobs}."),
    ] = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True,
                     metavar="", rich_help_panel=shared.GENERAL,
                     help="Print the version and exit."),
    ] = False,
) -> Action:  # fmt: skip
    """Upscale images: `upscale photo.jpg` writes photo_x4.jpg."""

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        if options.compare.models:
            from upscale.cli.compare import compare_networks

            return compare_networks(session, inputs or [], options)
        if crop is not None:
            raise UsageError("--crop needs --models: it selects the part that is compared")
        from upscale.cli.image_batch import upscale_images

        return upscale_images(session, inputs or [], options)

    return action
