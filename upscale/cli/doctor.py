"""`upscale doctor`: what this installation can do, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Annotated

import typer

from upscale import __version__
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode, UpscaleError
from upscale.options import DEFAULT_MODEL, config_path

GIB = 2**30
SMALL_MEMORY = 4 * GIB
"""Available memory below which larger photographs become slow: planes go to a file."""
TRIAL_SIDE = 16
"""Side in pixels of the image that is upscaled to see whether everything works."""

_REQUIRED = ("torch", "numpy", "opencv-python", "pillow", "tifffile", "safetensors")
_OPTIONAL = {"spandrel": "other architectures: install upscale's community extra"}

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do where something is missing.

    `fatal` findings keep the main job from running.
    """

    topic: str
    text: str
    advice: str | None = None
    fatal: bool = False


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Do not try to upscale an image.")
    ] = False,
    verbose: Verbose = None,
) -> Action:
    """Show versions, devices, memory and networks, and try a small image."""
    return lambda session: _examine(session, quick)


def _examine(session: Session, quick: bool) -> int:
    findings: list[Finding] = []
    for look in (_versions, _devices, _memory, _folders, _networks, *(() if quick else (_trial,))):
        for finding in _guarded(look, session):
            findings.append(finding)
            session.out(f"{finding.topic + ':':14} {finding.text}")
    advice = [finding for finding in findings if finding.advice]
    if advice:
        session.out("")
    for finding in sorted(advice, key=lambda one: not one.fatal):
        mark = "problem" if finding.fatal else "hint"
        session.out(f"{mark + ':':14} {finding.topic}: {finding.advice}")
    fatal = any(finding.fatal for finding in findings)
    session.out("")
    session.out(f"{'result:':14} {'images cannot be upscaled' if fatal else 'all works'}")
    return ExitCode.FAILED if fatal else ExitCode.DONE


def _guarded(look: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    """Turn whatever breaks while looking into a finding: that is what a doctor is for."""
    topic = look.__name__.strip("_")
    try:
        yield from look(session)
    except UpscaleError as error:
        yield Finding(topic, "failed", str(error), fatal=True)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(topic, "failed", f"{text}; install upscale again", fatal=True)


def _versions(session: Session) -> Iterator[Finding]:
    yield Finding("upscale", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    for name in _REQUIRED:
        found = _version(name)
        if found is None:
            yield Finding(name, "not installed", f"run: pip install {name}", fatal=True)
        else:
            yield Finding(name, found)
    for name, purpose in _OPTIONAL.items():
        yield Finding(name, _version(name) or f"not installed (for {purpose})")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices(session: Session) -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    cores = "core" if threads == 1 else "cores"
    yield Finding("device", f"cpu: {_processor()}, {threads} {cores} used")
    yield _kernels()
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        memory = f"{facts.total_memory / GIB:.1f} GiB"
        yield Finding("device", f"cuda:{index}: {facts.name}, {memory}")
        yield Finding("kernels", f"cuda:{index}: {_gpu_kernels(index)}")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps: Apple GPU")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        text = f"none that torch {torch.__version__} can use"
        yield Finding("GPU", text, "it is much faster; with an NVIDIA card, install a CUDA torch")


def _kernels() -> Finding:
    """Which convolutions were compiled for this CPU."""
    import torch

    from upscale.kernels import KernelMissingError
    from upscale.kernels.compiled import library_for

    try:
        abilities = [library_for(torch.float32).ability]
        with suppress(KernelMissingError):
            abilities.append(f"{library_for(torch.bfloat16).ability} for --precision bf16")
    except KernelMissingError as error:
        advice = "a CPU is slower without: install a C compiler, then upscale again"
        return Finding("kernels", f"none: {error}", advice)
    return Finding("kernels", f"compiled, {', '.join(abilities)}")


def _gpu_kernels(index: int) -> str:
    """What can compute convolutions beside torch on a GPU."""
    import torch

    from upscale.kernels import KernelMissingError
    from upscale.kernels.triton_conv import layer_maker, triton_version

    try:
        layer_maker(torch.device("cuda", index), torch.float16)
    except KernelMissingError as error:
        return f"torch only: {error}"
    return f"Triton {triton_version()}, for networks that it proves right and faster for"


def _processor() -> str:
    return platform.processor() or platform.machine()


def _memory(session: Session) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f}"
    small = memory.available < SMALL_MEMORY
    yield Finding(
        "memory", text, "large photographs will be slow: close programs" if small else None
    )


def _folders(session: Session) -> Iterator[Finding]:
    from upscale.checkpoints import CACHE_VARIABLE, cache_root

    root = cache_root()
    nearest = root
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        yield Finding("cache", str(root))
    else:
        advice = f"set {CACHE_VARIABLE} to a folder that can be written"
        yield Finding("cache", f"{root} (cannot be written)", advice)
    config = config_path(session.environ)
    yield Finding("config", "none" if config is None else str(config))


def _networks(session: Session) -> Iterator[Finding]:
    from upscale.checkpoints import availability, catalog, imported_names
    from upscale.cli.models import PRESENCE_TEXT

    for name, entry in catalog().items():
        presence = availability(entry)
        missing = name == DEFAULT_MODEL and presence == "absent"
        advice = f"{name}, the default: run: upscale models pull {name}" if missing else None
        text = f"{name}: {PRESENCE_TEXT[presence]}"
        yield Finding("network", text, advice, fatal=missing)
    for name in imported_names():
        yield Finding("network", f"{name}: imported")


def _trial(session: Session) -> Iterator[Finding]:
    """Upscale a small image with the default network, from its bytes to its bytes."""
    import numpy as np

    from upscale import Upscaler
    from upscale.checkpoints import availability, catalog
    from upscale.images import Image, encode_file, read_image

    if availability(catalog()[DEFAULT_MODEL]) == "absent":
        return
    began = perf_counter()
    pixels = np.full((TRIAL_SIDE, TRIAL_SIDE, 3), 128, np.uint8)
    image = Image(pixels)
    image = read_image(encode_file(image, "png"))
    result = Upscaler(DEFAULT_MODEL).run(image.pixels)
    height, width = result.pixels.shape[:2]
    where = f"{result.report.device} in {result.report.precision}"
    took = f"{perf_counter() - began:.1f} s with loading"
    yield Finding("trial", f"{TRIAL_SIDE}x{TRIAL_SIDE} became {width}x{height} on {where}, {took}")
