"""The default command: `upscale INPUT... [-o OUT]`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from upscale import __version__
from upscale.cli.commands import COMMANDS
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose, switch, text
from upscale.errors import UsageError
from upscale.options import DEFAULT_MODEL, load_options, option_names


class _DefaultCommand(TyperCommand):
    """Adds the other commands to the help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        super().format_help(ctx, formatter)
        from rich.console import Console
        from rich.panel import Panel
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column()
        for name, command in COMMANDS.items():
            table.add_row(name, command.summary)
        panel = Panel(table, title="Commands", title_align="left", border_style="dim")
        Console(file=sys.stdout).print(panel)


_EPILOG = (
    "Every option also reads UPSCALE_<OPTION> (as UPSCALE_MAX_SIDE) and a key of the configuration "
    "file (as max-side = 2048), which is upscale/config.toml in the user's configuration folder or "
    "what UPSCALE_CONFIG names. Flags outrank the environment, which outranks the file. "
    "An input named like a command is reached with ./"
)

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.obj.out(f"upscale {__version__}")
        raise typer.Exit


_OUT, _SIZE, _NET, _RUN, _SHOW = "Output", "Size", "Network", "Many images", "Messages"
_COMPARE = "Comparing networks"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Images (JPEG, PNG, WebP, TIFF, AVIF, GIF and more), folders, or - for standard "
        "input.",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    text("-o", "--output", metavar="OUT", panel=_OUT, help="A file, a folder (end a new one in "
          "/), or - for standard output. Without it: photo_x4.jpg beside photo.jpg."),
]  # fmt: skip
Format = Annotated[
    str | None,
    text("-f", "--format", metavar="FORMAT", panel=_OUT,
          help="jpg, png, webp, tiff, avif, gif, bmp, heic or jxl. Default: the input's own."),
]  # fmt: skip
Quality = Annotated[
    str | None,
    text("-q", "--quality", metavar="1..100", panel=_OUT,
          help="Quality of JPEG, WebP, AVIF, HEIC and JPEG XL. Default: 95, or that of a JPEG "
          "that becomes a JPEG, where it is higher."),
]  # fmt: skip
Lossless = Annotated[
    bool | None,
    switch("--lossless", panel=_OUT, help="Keep every pixel, in WebP, AVIF and JPEG XL."),
]
StripMetadata = Annotated[
    bool | None,
    switch("--strip-metadata", panel=_OUT,
            help="Leave out EXIF, XMP, IPTC and comments: camera, place, names. The colour "
            "profile stays."),
]  # fmt: skip
Name = Annotated[
    str | None,
    text("--name", metavar="TEMPLATE", panel=_OUT,
          help="Name of the outputs, from {stem} {scale} {model} {width} {height} {ext}, and the "
          "input's {suffix} and {folder}; as {stem}_x{scale}.{ext}"),
]  # fmt: skip
Overwrite = Annotated[
    bool | None, switch("--overwrite", panel=_OUT, help="Replace outputs that exist.")
]
SkipExisting = Annotated[
    bool | None, switch("--skip-existing", panel=_OUT, help="Pass over outputs that exist.")
]
Scale = Annotated[
    str | None,
    text("-s", "--scale", metavar="N", panel=_SIZE,
          help="Output size over input size, any number above 0. Default: the network's own."),
]  # fmt: skip
Width = Annotated[
    str | None,
    text("--width", metavar="PIXELS", panel=_SIZE,
          help="Width of the result; alone it keeps the proportions."),
]  # fmt: skip
Height = Annotated[
    str | None,
    text("--height", metavar="PIXELS", panel=_SIZE,
          help="Height of the result; alone it keeps the proportions."),
]  # fmt: skip
MaxSide = Annotated[
    str | None,
    text("--max-side", metavar="PIXELS", panel=_SIZE, help="Longer side of the result."),
]
Model = Annotated[
    str | None,
    text("-n", "--model", metavar="NAME|FILE", panel=_NET,
          help=f"A network that upscale models lists, or a file. Default: {DEFAULT_MODEL}."),
]  # fmt: skip
Tile = Annotated[
    str | None,
    text("-t", "--tile", metavar="auto|0|N", panel=_NET,
          help="Side of a tile in input pixels, 16 or more; 0 for none. Saves memory and does not "
          "change the result. Default: auto."),
]  # fmt: skip
Device = Annotated[
    str | None,
    text("--device", metavar="DEVICE", panel=_NET,
          help="auto, cpu, cuda, cuda:N or mps; several, as cuda:0,cuda:1, share the images. "
          "Default: auto."),
]  # fmt: skip
Precision = Annotated[
    str | None,
    text("--precision", metavar="PRECISION", panel=_NET,
          help="auto, fp32, fp16 or bf16. Default: auto."),
]  # fmt: skip
Kernels = Annotated[
    bool | None,
    switch("--kernels/--no-kernels", panel=_NET,
           help="Convolutions that are faster than torch's, or torch's. Default: the faster ones."),
]  # fmt: skip
Tta = Annotated[
    bool | None,
    switch("-x", "--tta", panel=_NET, help="Average the eight flips and turns: 8 times slower."),
]
Denoise = Annotated[
    str | None,
    text("--denoise", metavar="0..1", panel=_NET,
          help="How much noise to remove, for networks that have a choice."),
]  # fmt: skip
Models = Annotated[
    str | None,
    text("--models", metavar="A,B,...", panel=_COMPARE,
          help="Try these networks instead, and write a page to choose on: photo_models.html "
          "beside photo.jpg, or -o PAGE.html. See also: upscale compare."),
]  # fmt: skip
Crop = Annotated[
    str | None,
    text("--crop", metavar="CROP", panel=_COMPARE,
          help="Try them on a part only: auto (where most detail is) or X,Y,WIDTH,HEIGHT."),
]  # fmt: skip
FilesFrom = Annotated[
    str | None,
    text("--files-from", metavar="FILE|-", panel=_RUN,
          help="Read names of inputs from a file, or - for standard input: one a line, or ended "
          "by NUL as find -print0 does."),
]  # fmt: skip
Jobs = Annotated[
    str | None,
    text("-j", "--jobs", metavar="N", panel=_RUN,
          help="Threads that read and write beside the computing. Default: 2."),
]  # fmt: skip
Recursive = Annotated[
    bool | None,
    switch("-r", "--recursive", panel=_RUN,
            help="Look into folders of folders (not through links); the output folder mirrors "
            "them."),
]  # fmt: skip
DryRun = Annotated[
    bool | None,
    switch("--dry-run", panel=_RUN, help="Print what would be written, and touch nothing."),
]
MaxPixels = Annotated[
    str | None,
    text("--max-pixels", metavar="N", panel=_RUN,
          help="Refuse larger inputs, as a guard against hostile files."),
]  # fmt: skip
Json = Annotated[bool | None, switch("--json", panel=_SHOW, help="Print one JSON object an image.")]
Quiet = Annotated[bool | None, switch("--quiet", panel=_SHOW, help="Print nothing but errors.")]
Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_show_version,
        is_eager=True,
        rich_help_panel=_SHOW,
        metavar="",
        help="Print the version.",
    ),
]


@app.command(cls=_DefaultCommand, epilog=_EPILOG)
def image(
    context: typer.Context,
    *,
    inputs: Inputs = None,
    output: Output = None,
    format: Format = None,
    quality: Quality = None,
    lossless: Lossless = None,
    strip_metadata: StripMetadata = None,
    name: Name = None,
    overwrite: Overwrite = None,
    skip_existing: SkipExisting = None,
    scale: Scale = None,
    width: Width = None,
    height: Height = None,
    max_side: MaxSide = None,
    model: Model = None,
    tile: Tile = None,
    device: Device = None,
    precision: Precision = None,
    kernels: Kernels = None,
    tta: Tta = None,
    denoise: Denoise = None,
    models: Models = None,
    crop: Crop = None,
    files_from: FilesFrom = None,
    jobs: Jobs = None,
    recursive: Recursive = None,
    dry_run: DryRun = None,
    max_pixels: MaxPixels = None,
    json: Json = None,
    quiet: Quiet = None,
    verbose: Verbose = None,
    version: Version = False,
) -> Action:
    """Upscale images: upscale photo.jpg writes photo_x4.jpg."""
    flags = {key: value for key, value in context.params.items() if key in option_names()}

    def action(session: Session) -> int:
        options = load_options(flags, session.environ)
        session.verbose = options.report.verbose
        if options.compare.models:
            from upscale.cli.compare import compare_networks

            return compare_networks(session, inputs or [], options)
        if flags["crop"] is not None:
            raise UsageError("--crop is for comparing networks: give --models, too")
        from upscale.cli.image_batch import upscale_images

        return upscale_images(session, inputs or [], options)

    return action
