"""Compiled kernels: optional, and each with a reference in torch that it is compared with."""

from __future__ import annotations
