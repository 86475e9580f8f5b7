"""Cutting a computation into tiles. Knows torch tensors; knows no model, format or command line."""

from __future__ import annotations
