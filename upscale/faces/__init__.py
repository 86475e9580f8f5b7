"""Faces: find, align, restore, and paste back; no files and no command line."""

from __future__ import annotations
