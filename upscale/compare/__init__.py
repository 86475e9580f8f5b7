"""Pages that show versions of an image over each other: one file, nothing fetched, no torch."""

from __future__ import annotations

from upscale.compare.crop import Box, choose_crop, choose_difference
from upscale.compare.embed import version_of_file, version_of_image
from upscale.compare.page import ImageSet, Version, page_parts
from upscale.compare.report import Table, report_parts

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
