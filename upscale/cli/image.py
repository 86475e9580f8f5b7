"""The default command: `upscale INPUT... [-o OUT]`."""

from __future__ import annotations

from typing import Annotated

import typer

from upscale import __version__
from upscale.cli import shared_options as shared
from upscale.cli.completion import first_word, image_formats, list_of, networks, one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options, switch
from upscale.errors import UsageError
from upscale.options import DDS_FORMATS, ESTIMATE, MOST_JOBS, RunOptions

_EPILOG = (
    "Each option can also be set by an environment variable (--max-side: UPSCALE_MAX_SIDE) or in "
    "the configuration file (max-side = 2048), which is upscale/config.toml in the user's "
    "configuration folder, or the file that UPSCALE_CONFIG names. Command-line options take "
    "precedence over the environment, and the environment over the file. "
    "If an input has the name of a command, write ./NAME."
)
_COMPARISON = "Network comparison"
_ZERO_SHOT = "A network for each image"
_TEXTURES = "Textures and panoramas"

app = typer.Typer(add_completion=True, rich_markup_mode="rich")


def _print_version(context: typer.Context, value: bool) -> None:
    if value:
        context.obj.out(f"upscale {__version__}")
        raise typer.Exit


@app.command(epilog=_EPILOG)
def image(
    context: typer.Context,
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", show_default=False, autocompletion=first_word,
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
               autocompletion=one_of(image_formats),
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
               help="Use lossless compression in WebP, AVIF, JPEG XL and HEIC, and none in DDS."),
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
    max_output_pixels: shared.MaxOutputPixels = None,
    yes: shared.Yes = None,
    model: shared.Model = None,
    tile: shared.Tile = None,
    device: shared.Device = None,
    precision: shared.Precision = None,
    kernels: shared.Kernels = None,
    tta: shared.Tta = None,
    denoise: shared.Denoise = None,
    fidelity: shared.Fidelity = None,
    keep_colour: shared.KeepColour = None,
    face: shared.Face = None,
    face_model: shared.FaceModel = None,
    face_detector: shared.FaceDetector = None,
    face_parser: shared.FaceParser = None,
    face_strength: shared.FaceStrength = None,
    faces_only: Annotated[
        bool | None,
        switch("--faces-only", panel=shared.FACES,
               help="Restore faces and leave everything else as it is, at the size of the input; "
               "--scale resizes it without a network."),
    ] = None,
    face_min_size: shared.FaceMinSize = None,
    face_debug: shared.FaceDebug = None,
    zero_shot: Annotated[
        bool | None,
        switch("--zero-shot", panel=_ZERO_SHOT,
               help="Train a small network on each image itself, in minutes, and upscale the image "
               "with it. For details that repeat in the image, and for a known kernel."),
    ] = None,
    kernel: Annotated[
        str | None,
        option("--kernel", metavar="FILE|estimate", panel=_ZERO_SHOT,
               autocompletion=one_of(lambda: (ESTIMATE,)),
               help="With --zero-shot: the kernel that made the image from a larger one: a file "
               "(.npy, .npz, .mat or .png), or estimate, to find it with KernelGAN. It must be "
               "that of scale 2, or of scale 4 if the output is more than twice as large. "
               "Default: bicubic."),
    ] = None,
    seed: Annotated[
        str | None,
        option("--seed", metavar="N", panel=_ZERO_SHOT,
               help="With --zero-shot: seed of all random numbers. Default: 0."),
    ] = None,
    seamless: Annotated[
        str | None,
        option("--seamless", metavar="x|y|xy", panel=_TEXTURES,
               help="The image repeats from left to right (x, such as a 360-degree panorama), from "
               "top to bottom (y), or both (xy, such as a tiling texture); so does the output, "
               "without a seam."),
    ] = None,
    normal_map: Annotated[
        bool | None,
        switch("--normal-map", panel=_TEXTURES,
               help="The colours are the directions of a surface: make them unit vectors after "
               "upscaling, and treat the alpha channel as data of its own."),
    ] = None,
    dds_format: Annotated[
        str | None,
        option("--dds-format", metavar="FORMAT", panel=_TEXTURES,
               help=f"Format of DDS outputs: {', '.join(DDS_FORMATS)}. Default: auto, that of the "
               "input; bc7 if the input is not DDS, bc5 for normal maps."),
    ] = None,
    mipmaps: Annotated[
        bool | None,
        switch("--mipmaps/--no-mipmaps", panel=_TEXTURES,
               help="Add mipmaps to DDS outputs. Default: if the input has them; on if it is not "
               "DDS."),
    ] = None,
    models: Annotated[
        str | None,
        option("--models", metavar="A,B,...", panel=_COMPARISON, autocompletion=list_of(networks),
               help="Upscale with each of these networks and write an HTML page that compares the "
               "results: photo_models.html next to photo.jpg, or -o PAGE.html."),
    ] = None,
    crop: Annotated[
        str | None,
        option("--crop", metavar="CROP", panel=_COMPARISON,
               autocompletion=one_of(lambda: ("auto",)),
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
    max_input: shared.MaxInput = None,
    keep_damaged: Annotated[
        bool | None,
        switch("--keep-damaged", panel=shared.INPUT,
               help="Upscale what can be read of damaged or cut-off images, and say what is "
               "missing. The exit code is then 3. Default: they fail."),
    ] = None,
    jobs: Annotated[
        str | None,
        option("-j", "--jobs", metavar="N", panel=shared.INPUT,
               help=f"Number of threads that read and write files, 1 to {MOST_JOBS}. "
               f"Default: {RunOptions().jobs}."),
    ] = None,
    shard: shared.Shard = None,
    cluster: shared.Cluster = None,
    workers: shared.Workers = None,
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
    """Upscale images: `upscale photo.jpg` writes photo_x4.jpg.

    `upscale IN OUT` is short for `upscale IN -o OUT` if OUT does not exist yet.
    """

    def action(session: Session) -> int:
        is_split = output is None and files_from is None
        names, target = _split(inputs or [], models) if is_split else (inputs or [], None)
        options = resolve_options(context, session, output=target)
        shared.check_faces(context, options)
        if options.compare.models:
            for flag, value in (("--shard", shard), ("--cluster", cluster)):
                if value is not None:
                    raise UsageError(f"{flag} and --models exclude each other: choose one")
            from upscale.cli.compare import compare_networks

            return compare_networks(session, names, options)
        if crop is not None:
            raise UsageError("--crop needs --models: it selects the part that is compared")
        from upscale.cli.image_batch import upscale_images

        return upscale_images(session, names, options, checks_quality=quality is not None)

    return action


def _split(names: list[str], models: str | None) -> tuple[list[str], str | None]:
    """Return the inputs and the output; `upscale IN OUT` names the output without `-o`."""
    if len(names) < 2:
        return names, None
    from upscale.jobs.outputs import output_among, page_among

    target = output_among(names) if models is None else page_among(names)
    return (names, None) if target is None else (names[:1], target)
