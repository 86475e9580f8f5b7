"""The options that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscale.cli.completion import face_detectors, face_networks, face_parsers, networks, one_of
from upscale.cli.session import Session
from upscale.errors import OutputError, UsageError
from upscale.options import (
    DEFAULT_MODEL,
    KEEP_COLOUR,
    PRECISIONS,
    SMALLEST_TILE,
    FaceOptions,
    Options,
    load_options,
    option_names,
)

OUTPUT, SIZE, NETWORK, INPUT, GENERAL = "Output", "Size", "Network", "Input", "General"
FACES, CLUSTER = "Faces", "Cluster"
"""Titles of the panels of help pages."""

# Choices for help pages. The modules that know them are slow to import; tests compare both.
CHAINS = "real-esrgan, classical (bicubic), generic, or the .yaml file of a recipe"
CODECS = "x264, x265, svt-av1, vp9, prores, ffv1, h264_nvenc, hevc_nvenc, av1_nvenc"
PURPOSES = (
    "web (H.264 in 8 bits and AAC, which play everywhere), archive (FFV1, lossless), "
    "edit (ProRes 422 HQ or 4444)"
)
METRICS = (
    "psnr, psnr-y, ssim, ssim-y, lpips, lpips-vgg, dists, st-lpips, text, colour-shift, niqe, "
    "brisque, piqe"
)
DENOISE_NETWORKS = "upscale-x4-fast (default: 1), realesr-general-x4v3 (default: 1)"


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
    context: typer.Context,
    session: Session,
    *,
    output: str | None = None,
    model: str = DEFAULT_MODEL,
) -> Options:
    """Merge a command's options with the environment and the configuration file.

    Args:
        context: Parsed command line.
        session: Environment.
        output: Output that the command line names without `-o`.
        model: Network if none is named.

    Raises:
        UsageError: A value is invalid, or options cannot be combined.
        OutputError: JSON is asked for, but standard output is closed.
    """
    names = option_names()
    flags = {name: value for name, value in context.params.items() if name in names}
    if output is not None:
        flags["output"] = output
    options = load_options(flags, session.environ, model)
    session.verbose = options.report.verbose
    if options.report.json and not session.has_stdout:
        raise OutputError("--json: standard output is closed; redirect it to a file")
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
           f"Default: {DEFAULT_MODEL}, which chooses networks by the image: one for clean photos, "
           "one for noise, blur and JPEG artefacts, one for drawings."),
]  # fmt: skip
Face = Annotated[
    bool | None,
    switch("--face", panel=FACES,
           help="Find faces, restore them with a network for faces, and paste them into the "
           "result."),
]  # fmt: skip
FaceModel = Annotated[
    str | None,
    option("--face-model", metavar="NAME|FILE", panel=FACES, autocompletion=one_of(face_networks),
           help="Network for faces: a name from `upscale models`, a checkpoint file, or none to "
           f"only show which faces are found. Default: {FaceOptions().face_model}."),
]  # fmt: skip
FaceDetector = Annotated[
    str | None,
    option("--face-detector", metavar="NAME|FILE", panel=FACES,
           autocompletion=one_of(face_detectors),
           help=f"Detector of faces: {FaceOptions().face_detector}, which is installed; "
           "retinaface, which is downloaded; or a checkpoint file of RetinaFace. "
           f"Default: {FaceOptions().face_detector}."),
]  # fmt: skip
FaceParser = Annotated[
    str | None,
    option("--face-parser", metavar="NAME|FILE", panel=FACES, autocompletion=one_of(face_parsers),
           help="Paste faces along their outline, which this network finds: parsenet, a checkpoint "
           "file of it, or none for a soft square. Default: parsenet if it is in the cache."),
]  # fmt: skip
FaceStrength = Annotated[
    str | None,
    option("--face-strength", metavar="0..1", panel=FACES,
           help="Weight of restored faces against the plain result. Default: 1. For codeformer, 1 "
           "restores most and 0 stays closest to the input; default: 0.5."),
]  # fmt: skip
FaceMinSize = Annotated[
    str | None,
    option("--face-min-size", metavar="PIXELS", panel=FACES,
           help="Smallest side of a face in the input that is restored. "
           f"Default: {FaceOptions().face_min_size}."),
]  # fmt: skip
FaceDebug = Annotated[
    bool | None,
    switch("--face-debug", panel=FACES,
           help="Draw the box, the score and the landmarks of each face into the result."),
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
           autocompletion=one_of(lambda: ("auto", "cpu", "cuda", "cuda:0", "mps", "xpu")),
           help="Device to compute on: auto, cpu, cuda, cuda:N, mps (Apple), or xpu and xpu:N "
           "(Intel). To share images or a video among several devices, list them: cuda:0,cuda:1. "
           "Default: auto, the first that works of cuda, xpu, mps and cpu."),
]  # fmt: skip
Precision = Annotated[
    str | None,
    option("--precision", metavar="PRECISION", panel=NETWORK,
           autocompletion=one_of(lambda: PRECISIONS),
           help=f"Precision of the computation: {', '.join(PRECISIONS)}. Default: auto, "
           "which is fp32 on a CPU and on older NVIDIA GPUs, and fp16 on all others."),
]  # fmt: skip
Kernels = Annotated[
    bool | None,
    switch("--kernels/--no-kernels", panel=NETWORK,
           help="Use compiled convolutions where they are faster than PyTorch's. Default: on."),
]  # fmt: skip
Tta = Annotated[
    bool | None,
    switch("-x", "--tta", panel=NETWORK,
           help="Test-time augmentation: average the results of 8 flips and rotations. Softens "
           "the image; 8 times slower."),
]  # fmt: skip
Denoise = Annotated[
    str | None,
    option("--denoise", metavar="0..1", panel=NETWORK,
           help=f"Denoising strength of networks that support it: {DENOISE_NETWORKS}. 0 keeps "
           "noise and texture, 1 removes most."),
]  # fmt: skip
Fidelity = Annotated[
    str | None,
    option("--fidelity", metavar="0..1", panel=NETWORK,
           help="With -n auto: mix the networks for damaged and for clean photos, from 0 (most "
           "cleaning) to 1 (most faithful). Default: chosen by the image."),
]  # fmt: skip
KeepColour = Annotated[
    str | None,
    option("--keep-colour", "--keep-color", metavar="on|off|auto", panel=NETWORK,
           autocompletion=one_of(lambda: KEEP_COLOUR),
           help="Give the result the colours of the input, which networks shift a little. "
           "Default: auto, if the input is free of noise and compression artefacts."),
]  # fmt: skip
Recursive = Annotated[
    bool | None,
    switch("-r", "--recursive", panel=INPUT,
           help="Include subfolders; symbolic links to folders are not followed."),
]  # fmt: skip
Shard = Annotated[
    str | None,
    option("--shard", metavar="I/N|auto", panel=INPUT,
           help="Do only share I of N, counted from 1, so that N processes or machines do all of "
           "the work. auto takes I and N from a Slurm job array."),
]  # fmt: skip
Cluster = Annotated[
    str | None,
    option("--cluster", metavar="auto|ADDRESS", panel=CLUSTER,
           autocompletion=one_of(lambda: ("auto",)),
           help="Compute on a Ray cluster: auto for the one that RAY_ADDRESS names or this "
           "machine belongs to, or an address such as 10.0.0.1:6379. Needs upscale[ray]."),
]  # fmt: skip
Workers = Annotated[
    str | None,
    option("--workers", metavar="N", panel=CLUSTER,
           help="With --cluster: use at most N workers. Default: one for each GPU, and one for "
           "each machine without GPUs."),
]  # fmt: skip
MaxPixels = Annotated[
    str | None,
    option("--max-pixels", metavar="N", panel=INPUT,
           help="Reject images or video frames with more than N pixels (protects against "
           "malicious files)."),
]  # fmt: skip
MaxInput = Annotated[
    str | None,
    option("--max-input", metavar="BYTES", panel=INPUT,
           help="Reject more than BYTES from standard input or a pipe, for example 500M. "
           "Default: 1G."),
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


def check_faces(context: typer.Context, options: Options) -> None:
    """Check that options about faces are given only where faces are looked for.

    Raises:
        UsageError: The command line has such an option without `--face`, or a network that
            `--faces-only` would not use.
    """
    if options.faces.faces_only and context.params.get("model") is not None:
        raise UsageError(
            "--faces-only and -n exclude each other: no network computes the background then"
        )
    if options.faces.is_on:
        return
    for name in ("face_model", "face_detector", "face_parser", "face_strength", "face_min_size"):
        if context.params.get(name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --face")


def check_cluster(options: Options) -> None:
    """Check that options can be combined with a cluster.

    Raises:
        UsageError: `--workers` is given without a cluster, or an option needs this machine.
    """
    if options.run.cluster is None:
        if options.run.workers is not None:
            raise UsageError("--workers needs --cluster")
        return
    if len(options.engine.devices) > 1:
        raise UsageError("--device lists several devices, but each worker of a cluster has one")
    if options.training.zero_shot:
        raise UsageError("--zero-shot and --cluster exclude each other: choose one, or use --shard")
