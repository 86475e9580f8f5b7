"""The command `upscale doctor`: check the installation and suggest fixes."""

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
from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.errors import ExitCode, UpscaleError
from upscale.options import DEFAULT_MODEL, config_path

GIB = 2**30
SMALL_MEMORY = 4 * GIB
"""Available memory in bytes below which feature maps of large images are offloaded to a file."""
TEST_SIDE = 16
"""Side in pixels of the image that is upscaled as a test."""

_REQUIRED = ("torch", "numpy", "opencv-python", "pillow", "tifffile", "safetensors")
_OPTIONAL = {"spandrel": "needed for other architectures: pip install 'upscale[community]'"}

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: Name of the check.
        text: The result.
        advice: Instructions to fix a problem; None if there is none.
        fatal: Whether images cannot be upscaled.
    """

    topic: str
    text: str
    advice: str | None = None
    fatal: bool = False


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Skip the test that upscales an image.")
    ] = False,
    verbose: shared.Verbose = None,
) -> Action:
    """Check versions, devices, memory, formats and networks, and upscale a small test image."""
    return lambda session: _run_checks(session, quick)


def _run_checks(session: Session, quick: bool) -> int:
    checks = [_versions, _devices, _memory, _folders, _formats, _networks]
    findings: list[Finding] = []
    for check in checks if quick else [*checks, _test]:
        for finding in _guarded(check, session):
            findings.append(finding)
            session.out(f"{finding.topic + ':':14} {finding.text}")
    with_advice = [finding for finding in findings if finding.advice]
    if with_advice:
        session.out("")
    for finding in sorted(with_advice, key=lambda finding: not finding.fatal):
        label = "problem" if finding.fatal else "hint"
        session.out(f"{label + ':':14} {finding.topic}: {finding.advice}")
    has_failed = any(finding.fatal for finding in findings)
    session.out("")
    result = "images cannot be upscaled; see the problems above" if has_failed else "ready"
    session.out(f"{'result:':14} {result}")
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def _guarded(check: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    """Run a check and turn any exception into a finding."""
    topic = check.__name__.strip("_")
    try:
        yield from check(session)
    except UpscaleError as error:
        yield Finding(topic, "failed", str(error), fatal=True)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(topic, "failed", f"{text}; reinstall upscale", fatal=True)


def _versions(session: Session) -> Iterator[Finding]:
    yield Finding("upscale", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    for name in _REQUIRED:
        installed = _version(name)
        if installed is None:
            yield Finding(name, "not installed", f"run: pip install {name}", fatal=True)
        else:
            yield Finding(name, installed)
    for name, purpose in _OPTIONAL.items():
        yield Finding(name, _version(name) or f"not installed ({purpose})")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices(session: Session) -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    unit = "thread" if threads == 1 else "threads"
    yield Finding("device", f"cpu: {_processor()}, {threads} {unit}")
    yield _kernels()
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / GIB:.1f} GiB"
        yield Finding("device", f"cuda:{index}: {properties.name}, {memory}")
        yield Finding("kernels", f"cuda:{index}: {_gpu_kernels(index)}")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps: Apple GPU")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        text = f"none that PyTorch {torch.__version__} can use"
        yield Finding(
            "GPU", text, "a GPU is much faster; for an NVIDIA GPU, install PyTorch with CUDA"
        )


def _kernels() -> Finding:
    """Check the compiled convolutions for this CPU."""
    import torch

    from upscale.kernels import KernelMissingError
    from upscale.kernels.compiled import library_for

    try:
        abilities = [library_for(torch.float32).ability]
        with suppress(KernelMissingError):
            abilities.append(f"{library_for(torch.bfloat16).ability} for --precision bf16")
    except KernelMissingError as error:
        advice = "upscaling on the CPU is slower: install a C compiler and reinstall upscale"
        return Finding("kernels", f"none: {error}", advice)
    return Finding("kernels", f"compiled, {', '.join(abilities)}")


def _gpu_kernels(index: int) -> str:
    """Describe the convolutions that are available on a GPU besides PyTorch's."""
    import torch

    from upscale.kernels import KernelMissingError
    from upscale.kernels.triton_conv import layer_maker, triton_version

    try:
        layer_maker(torch.device("cuda", index), torch.float16)
    except KernelMissingError as error:
        return f"PyTorch only: {error}"
    return f"Triton {triton_version()}, used where autotuning finds it correct and faster"


def _processor() -> str:
    return platform.processor() or platform.machine()


def _memory(session: Session) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f}"
    small = memory.available < SMALL_MEMORY
    advice = "large images will be slow: close other programs" if small else None
    yield Finding("memory", text, advice)


def _folders(session: Session) -> Iterator[Finding]:
    from upscale.checkpoints import CACHE_VARIABLE, cache_root

    root = cache_root()
    folder = root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        yield Finding("cache", str(root))
    else:
        advice = f"set {CACHE_VARIABLE} to a writable folder"
        yield Finding("cache", f"{root} (not writable)", advice)
    config = config_path(session.environ)
    yield Finding("config", "none" if config is None else str(config))


def _formats(session: Session) -> Iterator[Finding]:
    from upscale.images.formats import writable_traits

    yield Finding("formats", ", ".join(writable_traits()))


def _networks(session: Session) -> Iterator[Finding]:
    from upscale.checkpoints import availability, catalog, imported_names
    from upscale.cli.models import PRESENCE_TEXT

    for name, entry in catalog().items():
        presence = availability(entry)
        missing = name == DEFAULT_MODEL and presence == "absent"
        advice = (
            f"the default network is missing; run: upscale models pull {name}" if missing else None
        )
        text = f"{name}: {PRESENCE_TEXT[presence]}"
        yield Finding("network", text, advice, fatal=missing)
    for name in imported_names():
        yield Finding("network", f"{name}: imported")


def _test(session: Session) -> Iterator[Finding]:
    """Encode, decode and upscale a small image with the default network."""
    import numpy as np

    from upscale import Upscaler
    from upscale.checkpoints import availability, catalog
    from upscale.images import Image, encode_file, read_image

    if availability(catalog()[DEFAULT_MODEL]) == "absent":
        return
    start = perf_counter()
    pixels = np.full((TEST_SIDE, TEST_SIDE, 3), 128, np.uint8)
    image = read_image(encode_file(Image(pixels), "png"))
    result = Upscaler(DEFAULT_MODEL).run(image.pixels)
    height, width = result.pixels.shape[:2]
    device = f"{result.report.device} in {result.report.precision}"
    seconds = f"{perf_counter() - start:.1f} s including loading"
    sizes = f"{TEST_SIDE}x{TEST_SIDE} -> {width}x{height}"
    yield Finding("test", f"{sizes} on {device}, {seconds}")
