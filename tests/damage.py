"""Damage to files, and programs that read such files, which they may bring down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SECONDS_OF_WORK = 300
LONGEST_BLOCK = 4096


def damaged(whole: bytes, rng: np.random.Generator, longest_cut: int = 40) -> bytes:
    """A missing end; or a part cut out, zeroed or exchanged for another; or a few bytes changed."""
    data, kind = bytearray(whole), rng.integers(6)
    start = int(rng.integers(len(data)))
    if kind == 0:
        del data[max(1, start) :]
    elif kind == 1:
        del data[start : start + rng.integers(1, longest_cut)]
    elif kind == 2:
        end = min(len(data), start + int(rng.integers(1, min(LONGEST_BLOCK, len(data)))))
        data[start:end] = bytes(end - start)
    elif kind == 3:
        _exchange(data, start, int(rng.integers(len(data))), int(rng.integers(1, LONGEST_BLOCK)))
    else:
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] = rng.integers(256) if kind == 4 else data[place] ^ (1 << rng.integers(8))
    return bytes(data)


def _exchange(data: bytearray, one: int, other: int, length: int) -> None:
    """Two blocks that do not overlap change places."""
    one, other = sorted((one, other))
    length = min(length, other - one, len(data) - other)
    data[one : one + length], data[other : other + length] = (
        data[other : other + length],
        data[one : one + length],
    )


def run_limited(program: Path, *arguments: object, memory: int) -> subprocess.CompletedProcess[str]:
    """Run a program of the tests with bounded memory, and bounded work, so that a hang ends."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_WORK, SECONDS_OF_WORK))

    return subprocess.run(
        [sys.executable, "-W", "error", str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        },
    )
