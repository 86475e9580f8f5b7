"""Compiled kernels: optional, and each with a reference in torch that it is compared with."""

from __future__ import annotations


class KernelMissingError(Exception):
    """A kernel cannot be used here; the text says why."""
