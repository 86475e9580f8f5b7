"""The compiled convolutions that this machine can run."""

from __future__ import annotations

import pytest

from upscale.kernels.compiled import BF16, NEON, KernelMissingError, Library, cpu_capability

AVX2, AVX512 = (("AVX2", f"AVX2 {BF16}"), ("AVX512", f"AVX512 {BF16}"))
ABILITIES = {"AVX512": [*AVX2, *AVX512, "AMX"], "AVX2": [*AVX2], NEON: [NEON]}


def libraries():
    params = []
    for ability in ABILITIES.get(cpu_capability(), []):
        try:
            params.append(pytest.param(Library.load(ability), id=ability))
        except KernelMissingError as error:
            params.append(pytest.param(None, marks=pytest.mark.skip(str(error)), id=ability))
    return params or [
        pytest.param(None, marks=pytest.mark.skip("no compiled kernels for this CPU"))
    ]


LIBRARIES = libraries()
SHORTER = [each for each in LIBRARIES if each.id != f"AVX2 {BF16}" or len(LIBRARIES) == 2]
"""Without the slower of two libraries that are compiled from the same source for the same type."""
