"""The build script of the kernels, and a program that checks one of them without Python."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
SANITISERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1")


@cache
def hatch_build() -> ModuleType:
    """Return the build script, `hatch_build.py`."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_driver(compiler: str, flags: Sequence[str], target: Path) -> str:
    """Compile `driver.c` with the kernel in it; return what the compiler says if it cannot.

    Args:
        compiler: Command of the compiler.
        flags: Flags of the kernel.
        target: Program to write.
    """
    build = hatch_build()
    common = [flag for flag in build.FLAGS if flag != "-shared"]
    source, folder = Path(__file__).with_name("driver.c"), ROOT / build.KERNELS
    done = subprocess.run(
        [compiler, *common, *flags, f"-I{folder}", str(source), "-o", str(target), "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""
