"""Comparison pages: versions of an image in one HTML file that loads nothing. No torch."""

from __future__ import annotations

from upscale.compare.crop import Box, choose_crop, choose_difference
from upscale.compare.embed import version_of_file, version_of_image
from upscale.compare.page import page_parts
from upscale.compare.report import Table, report_parts
from upscale.compare.templates import ImageSet, Version

__all__ = [
    "Box",
    "ImageSet",
    "Table",
    "Version",
    "choose_crop",
    "choose_difference",
    "page_parts",
    "report_parts",
    "version_of_file",
    "version_of_image",
]
