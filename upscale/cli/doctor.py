"""The command `upscale doctor`: check the installation and suggest fixes."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Annotated

import typer

from upscale import __version__
from upscale.cli import shared_options as shared
from upscale.cli.doctor_packages import EXTRAS, TRIALS
from upscale.cli.session import Action, Session
from upscale.dependencies import ImportProblem, find_import_problem, reinstall
from upscale.errors import ExitCode, UpscaleError
from upscale.files.error_mapping import one_line
from upscale.options import AUTO, config_path

GIB = 2**30
SMALL_MEMORY = 4 * GIB
"""Available memory in bytes below which feature maps of large images are offloaded to a file."""
TEST_SIDE = 8
"""Side in pixels of the image that is upscaled as a test."""

_FORMAT_PACKAGES = {"heic": "pillow-heif", "exr": "OpenEXR"}
_COLUMN = max(map(len, TRIALS)) + 1

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
    """Try all packages, list devices, formats and networks, and upscale a small test image."""
    return lambda session: _run_checks(session, quick)


def _run_checks(session: Session, quick: bool) -> int:
    checks = [_versions, _packages, _devices, _memory, _folders, _formats, _networks]
    findings: list[Finding] = []
    for check in checks if quick else [*checks, _test]:
        for finding in _guarded(check, session):
            findings.append(finding)
            session.out(_line(finding.topic, finding.text))
        if check is _packages and any(finding.fatal for finding in findings):
            break  # what needs the package would only fail again
    with_advice = [finding for finding in findings if finding.advice]
    if with_advice:
        session.out("")
    for finding in sorted(with_advice, key=lambda finding: not finding.fatal):
        label = "problem" if finding.fatal else "hint"
        session.out(f"{label}: {finding.topic}: {finding.advice}")
    has_failed = any(finding.fatal for finding in findings)
    session.out("")
    result = "images cannot be upscaled; see the problems above" if has_failed else "ready"
    session.out(_line("result", result))
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def _line(topic: str, text: str) -> str:
    return f"{topic + ':':{_COLUMN}} {text}"


def _guarded(check: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    """Run a check and turn any exception into a finding."""
    topic = check.__name__.strip("_")
    try:
        yield from check(session)
    except UpscaleError as error:
        yield Finding(topic, "failed", str(error), fatal=True)
    except Exception as error:
        advice = find_import_problem(error) or f"{_summary(error)}; install upscale again"
        yield Finding(topic, "failed", str(advice), fatal=True)


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _versions(session: Session) -> Iterator[Finding]:
    yield Finding("upscale", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")


def _packages(session: Session) -> Iterator[Finding]:
    """Try every package that is needed, and import the optional ones."""
    broken: set[str] = set()
    for name, trial in TRIALS.items():
        finding = _tried(name, trial)
        if finding.fatal and finding.topic in broken:
            finding = Finding(name, f"needs {finding.topic}")
        broken |= {finding.topic} if finding.fatal else set()
        yield finding
    for name, (module, extra, purpose) in EXTRAS.items():
        if _version(name) is None:
            text = f"not installed (for {purpose}: pip install 'upscale[{extra}]')"
            yield Finding(name, text)
        else:
            yield replace(_tried(name, partial(importlib.import_module, module)), fatal=False)


def _tried(package: str, trial: Callable[[], object]) -> Finding:
    """Try a package; a failure is fatal."""
    try:
        trial()
    except Exception as error:
        problem = find_import_problem(error)
        if problem is None:
            text = f"does not work ({_summary(error)})"
            problem = ImportProblem(package, text, reinstall(package))
        # A package may also fail because another one is broken.
        advice = f"{problem.text}; {problem.remedy}"
        return Finding(problem.package, "failed", advice, fatal=True)
    return Finding(package, _version(package) or "works")


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
    gpus = list(_gpus())
    yield from gpus
    if not gpus:
        text = f"none that PyTorch {torch.__version__} can use"
        yield Finding(
            "GPU", text, "a GPU is much faster; for an NVIDIA GPU, install PyTorch with CUDA"
        )


def _gpus() -> Iterator[Finding]:
    """List the GPUs with the precision that each computes in by default, and why."""
    import torch

    from upscale.engine.device import automatic_precision, missing_code

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if fault := missing_code(index):
            yield Finding("device", fault, "see https://pytorch.org/get-started/previous-versions/")
            continue
        precision, reason = automatic_precision(torch.device("cuda", index))
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / GIB:.1f} GiB"
        text = f"cuda:{index}: {properties.name}, {memory}, {precision} ({reason})"
        yield Finding("device", text)
        yield Finding("kernels", f"cuda:{index}: {_gpu_kernels(index)}")
    for index in range(torch.xpu.device_count()):
        name = torch.xpu.get_device_name(index)
        yield Finding("device", f"xpu:{index}: {name}, fp16 (default on a GPU)")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps: Apple GPU, fp16 (default on a GPU)")


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
    from upscale.kernels.triton_conv import card_of, triton_version

    try:
        card_of(torch.device("cuda", index), torch.float16)
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

    names = [f"{name}{_lacks(_FORMAT_PACKAGES.get(name))}" for name in writable_traits()]
    yield Finding("formats", ", ".join(names))


def _lacks(package: str | None) -> str:
    return f" (needs {package})" if package is not None and _version(package) is None else ""


def _networks(session: Session) -> Iterator[Finding]:
    from upscale.checkpoints import availability, catalog, imported_names
    from upscale.cli.models import PRESENCE_TEXT
    from upscale.jobs.auto import auto_networks

    for name, entry in catalog().items():
        presence = availability(entry)
        missing = name in auto_networks() and presence == "absent"
        advice = f"-n {AUTO} needs {name}; run: upscale models pull {name}" if missing else None
        text = f"{name}: {PRESENCE_TEXT[presence]}"
        yield Finding("network", text, advice, fatal=missing)
    for name in imported_names():
        yield Finding("network", f"{name}: imported")


def _test(session: Session) -> Iterator[Finding]:
    """Encode, decode and upscale a small image with the networks for photos."""
    import numpy as np

    from upscale import Upscaler
    from upscale.checkpoints import availability, catalog
    from upscale.images import Image, encode_file, read_image
    from upscale.jobs.auto import auto_networks

    if any(availability(catalog()[name]) == "absent" for name in auto_networks()):
        return
    start = perf_counter()
    pixels = np.full((TEST_SIDE, TEST_SIDE, 3), 128, np.uint8)
    image = read_image(encode_file(Image(pixels), "png"))
    result = Upscaler(AUTO, fidelity=0.5).run(image.pixels)
    height, width = result.pixels.shape[:2]
    device = f"{result.report.device} in {result.report.precision}"
    seconds = f"{perf_counter() - start:.1f} s including loading"
    sizes = f"{TEST_SIDE}x{TEST_SIDE} -> {width}x{height}"
    yield Finding("test", f"{sizes} on {device}, {seconds}")
