"""Builds the compiled kernels with the package where a C compiler is at hand.

Run by the build of a wheel or of an editable installation; `python hatch_build.py` builds them in a
checkout. Without a compiler, or on processors that the kernels are not made for, the package is
complete and torch computes.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("upscale/kernels")
AVX512 = (
    *("-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "-mprefer-vector-width=512",
)
AVX2 = ("-mavx2", "-mfma")
X86 = {
    "winograd-avx2.so": ("winograd.c", "-DLANES=8", *AVX2),
    "winograd-avx512.so": ("winograd.c", "-DLANES=16", *AVX512),
    "winograd-avx2-bf16.so": ("winograd.c", "-DLANES=8", "-DBFLOAT", *AVX2),
    "winograd-avx512-bf16.so": ("winograd.c", "-DLANES=16", "-DBFLOAT", *AVX512),
}
"""Each library for x86-64: its source and flags."""

NEWER_X86 = {
    "amx.so": ("amx.c", *AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
}
"""Those for which a compiler may be too old, or the system is not Linux."""

ARM64 = {"winograd-neon.so": ("winograd.c", "-DLANES=4")}
"""Each library for ARM64: its source and flags."""

TARGETS = {"x86_64": X86, "amd64": X86, "aarch64": ARM64, "arm64": ARM64}
"""Libraries by `platform.machine()` in lower case."""

FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread")


class KernelHook(BuildHookInterface[Any]):
    """Adds the kernels to the package, and names the wheel for the platform if there are any."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if possible, and tell hatchling what has come of it."""
        if self.target_name != "wheel" or not build_kernels(Path(self.root)):
            return
        names = sorted(path.name for path in Path(self.root, KERNELS).glob("*.so"))
        build_data["artifacts"] += [f"/{KERNELS / name}" for name in names]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"


def build_kernels(root: Path) -> bool:
    """Compile all kernels in place; False, with a line that says why, where that is impossible."""
    folder = root / KERNELS
    for library in folder.glob("*.so"):  # older ones do not fit newer sources
        library.unlink()
    compiler = _compiler()
    targets = TARGETS.get(platform.machine().lower(), {})
    if not targets or os.name != "posix":
        return _without(f"they are not made for {platform.machine()} on {sys.platform}")
    if compiler is None:
        return _without("there is no C compiler")
    for name, recipe in targets.items():
        if error := _compile(compiler, folder, name, *recipe):
            return _without(f"{compiler[0]} failed: {error}")
    newer = NEWER_X86 if targets is X86 and sys.platform == "linux" else {}
    for name, recipe in newer.items():
        if error := _compile(compiler, folder, name, *recipe):
            sys.stderr.write(f"upscale is built without {name}: {compiler[0]} failed: {error}\n")
    return True


def _compile(compiler: list[str], folder: Path, name: str, source: str, *flags: str) -> str:
    """Make a library of a source; the end of what the compiler says if it cannot."""
    command = [*compiler, *FLAGS, *flags, str(folder / source), "-o", str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or "no reason given")[-500:] if done.returncode else ""


def _compiler() -> list[str] | None:
    """The command that `CC` names, or the system's compiler."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    return None


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _without(reason: str) -> bool:
    sys.stderr.write(f"upscale is built without its compiled kernels: {reason}\n")
    return False


if __name__ == "__main__":
    sys.exit(not build_kernels(Path(__file__).parent))
