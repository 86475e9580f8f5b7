"""Pages that show versions of a picture over each other: one file, nothing fetched, no torch."""

from __future__ import annotations

from upscale.compare.crop import Box, choose_crop
from upscale.compare.embed import version_of_file, version_of_picture
from upscale.compare.page import PictureSet, Version, page_parts

__all__ = [
    "Box",
    "PictureSet",
    "Version",
    "choose_crop",
    "page_parts",
    "version_of_file",
    "version_of_picture",
]
