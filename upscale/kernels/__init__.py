"""Optional compiled kernels; each has a reference in torch that it is compared with."""

from __future__ import annotations


class KernelMissingError(Exception):
    """A kernel cannot be used here; the message gives the reason."""
