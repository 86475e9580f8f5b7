"""The compiled convolutions that the tests' machine can run."""

from __future__ import annotations

import pytest
import torch

from upscale.kernels.compiled import KernelMissingError, Library

ABILITIES = {"AVX512": ["AVX2", "AVX512", "AMX"], "AVX2": ["AVX2"]}


def libraries():
    found = []
    for ability in ABILITIES.get(torch.backends.cpu.get_cpu_capability(), []):
        try:
            found.append(pytest.param(Library.load(ability), id=ability))
        except KernelMissingError as error:
            found.append(pytest.param(None, marks=pytest.mark.skip(str(error)), id=ability))
    return found or [pytest.param(None, marks=pytest.mark.skip("not made for this CPU"))]


LIBRARIES = libraries()
