"""ExifTool finds the same metadata in all test images before and after they are upscaled.

Whatever is missing afterwards must describe the way in which the file stored its pixels, or be
reported by a note.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from upscale.errors import UpscaleError
from upscale.images import Image, encode_file, losses, read_file

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic", ".avif", ".gif", ".jxl"}
MAX_PIXELS = 200_000

# Groups and tags that describe the file or its coding.
CODING_GROUPS = {"SourceFile", "ExifTool", "System", "File", "Composite", "Adobe", "QuickTime",
                 "RIFF", "Meta", "GIF", "Jpeg2000", "IFD1", "Track1", "Track2"}  # fmt: skip
CODING = {
    "PNG": {"BitDepth", "ColorType", "Compression", "Filter", "Interlace", "Palette", "ImageWidth",
            "ImageHeight", "Transparency", "ProfileName", "SignificantBits", "BackgroundColor",
            "ImageOffset", "AnimationFrames", "AnimationPlays",
            # without a keyword
            "TextualData"},
    "IFD0": {"ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "Orientation",
             "PhotometricInterpretation", "StripOffsets", "StripByteCounts", "RowsPerStrip",
             "SamplesPerPixel", "PlanarConfiguration", "TileWidth", "TileLength", "TileOffsets",
             "TileByteCounts", "ColorMap", "FillOrder", "InkSet", "Predictor", "ExtraSamples",
             "SampleFormat", "YCbCrCoefficients", "YCbCrPositioning", "YCbCrSubSampling",
             "ReferenceBlackWhite", "JPEGTables", "JPEGProc", "JPEGQTables", "JPEGDCTables",
             "JPEGACTables", "SubfileType", "PageNumber", "PreviewImage", "PreviewImageStart",
             "PreviewImageLength", "PrimaryChromaticities", "WhitePoint", "ThumbnailOffset",
             "T4Options", "T6Options", "GrayResponseUnit", "XResolution", "YResolution",
             "ResolutionUnit", "OldSubfileType", "MinSampleValue", "MaxSampleValue"},
    "JFIF": {"JFIFVersion", "ThumbnailWidth", "ThumbnailHeight", "ThumbnailTIFF",
             # that of EXIF where JFIF has none, see test_traits
             "XResolution", "YResolution", "ResolutionUnit"},
    "MPImage1": {"MPImageLength"}, "MPImage2": {"MPImageStart"},
    "PNG-pHYs": {"PixelUnits", "PixelsPerUnitX", "PixelsPerUnitY"},
}  # fmt: skip
# Photoshop's state that says nothing about the image, or repeats what is elsewhere.
PHOTOSHOP_KEPT = {"CopyrightFlag", "URL", "IPTCDigest", "PixelAspectRatio"}
FOLLOWS_THE_IMAGE = {
    "ExifImageWidth", "ExifImageHeight", "FocalPlaneXResolution", "FocalPlaneYResolution",
    "SubjectArea", "FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels",
    "CroppedAreaImageHeightPixels", "RegionAppliedToDimensionsW", "RegionAppliedToDimensionsH",
    "RegionAreaX", "RegionAreaY", "RegionAreaW", "RegionAreaH", "ImageWidth", "ImageHeight",
}  # fmt: skip
REPORTED = {
    "converted to sRGB": ("ICC",),
    "other images": ("MPF", "MPImage"),
    "video": ("XMP-GCamera",),
    "gain map": ("XMP-hdrgm", "XMP-Container"),
    "guides": ("Photoshop",),
}


def images(data_folder: Path) -> Iterable[Path]:
    return (path for path in sorted(data_folder.rglob("*")) if path.suffix.lower() in SUFFIXES)


def read_tags(folder: Path) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        ["exiftool", "-G1", "-a", "-u", "-n", "-json", "-q", "-q", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {Path(found["SourceFile"]).name: found for found in json.loads(done.stdout)}


def is_expected(tag: str, notes: str, *, is_lost: bool) -> bool:
    group, _, name = tag.partition(":")
    if group in CODING_GROUPS or name in CODING.get(group, ()):
        return True
    if group == "Photoshop" and name not in PHOTOSHOP_KEPT:
        return True
    if not is_lost and name in FOLLOWS_THE_IMAGE:
        return True
    return any(word in notes and group.startswith(groups) for word, groups in REPORTED.items())


def test_no_metadata_are_lost_without_a_note(data, tmp_path):
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    before, after, notes = tmp_path / "before", tmp_path / "after", dict[str, str]()
    before.mkdir()
    after.mkdir()
    for path in images(data / "images"):
        try:
            image = read_file(path, max_pixels=MAX_PIXELS)
        except UpscaleError:
            continue
        if not isinstance(image, Image):
            continue
        name = f"{path.parent.name}-{path.name}"
        alpha = None if image.alpha is None else image.alpha.repeat(2, 0).repeat(2, 1)
        large = replace(image, pixels=image.pixels.repeat(2, 0).repeat(2, 1), alpha=alpha)
        try:
            written = encode_file(large, image.origin.format)
        except UpscaleError:
            continue
        (before / name).write_bytes(path.read_bytes())
        (after / name).write_bytes(written)
        notes[name] = " ".join((*image.origin.notes, *losses(large, image.origin.format)))
    found = read_tags(after)
    wrong: list[str] = []
    for name, tags in read_tags(before).items():
        for tag, value in tags.items():
            other = found[name].get(tag)
            if other != value and not is_expected(tag, notes[name], is_lost=other is None):
                wrong.append(f"{name}: {tag} {value!r} became {other!r}; {notes[name]}")
    assert len(notes) > 150
    assert not wrong, "\n".join(wrong)
