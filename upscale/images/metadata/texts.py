"""Texts by keyword, as PNG files have them, and the EXIF tags that other formats have for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from upscale.files.printable import printable
from upscale.images.metadata import exif_tags
from upscale.images.metadata.exif_tags import ASCII, BYTE, UNDEFINED, Tag
from upscale.images.metadata.fields import Text

_DATE, _OFFSET, _USER_COMMENT = 306, 0x9010, 0x9286
_TITLE = 0x9C9B
_ASCII_TAGS = {"Description": 270, "Author": 315, "Copyright": 33432, "Software": 305}
# ComfyUI stores these in EXIF as "name:JSON", in tags that are free in generated images.
_WORKFLOW_TAGS = {"prompt": 272, "workflow": 271}
_PARAMETERS = "parameters"
# ImageMagick repeats properties of the file and of other metadata as texts.
_REPEATED = ("date:", "exif:", "icc:", "jpeg:", "png:", "tiff:", "xmp:")
_UNICODE = b"UNICODE\0"


def in_exif(
    texts: tuple[Text, ...],
    modified: datetime | None,
    block: bytes | None,
    fits: Callable[[bytes], bool],
) -> tuple[bytes | None, list[str]]:
    """Store texts in the EXIF tags that other programs read them from.

    Tags that the block has already are not changed.

    Args:
        texts: The texts.
        modified: Time of the last change, in UTC.
        block: The EXIF block, or None.
        fits: Function that returns whether a block fits into the file.

    Returns:
        The EXIF block, and the names of what has no place in it.
    """
    missing: list[Text] = []
    for text in texts:
        larger = _with_text(block, text)
        if larger is None or not fits(larger):
            missing.append(text)
        else:
            block = larger
    left_out = names(missing)
    if modified is not None:
        larger = _with_time(block, modified)
        if larger is None or not fits(larger):
            left_out.append("time of modification")
        else:
            block = larger
    return block, left_out


def names(texts: Iterable[Text]) -> list[str]:
    """Return names for messages of texts that a format has no place for.

    Args:
        texts: The texts.
    """
    found = (
        "properties repeated by ImageMagick"
        if text.keyword.startswith(_REPEATED)
        else f"text {printable(text.keyword)}"
        for text in texts
    )
    return list(dict.fromkeys(found))


def _with_text(block: bytes | None, text: Text) -> bytes | None:
    """Return the block with a text; None where it has no place for it."""
    content = text.text.encode("utf-8", "replace") + b"\0"
    if text.keyword == _PARAMETERS:
        comment = _UNICODE + text.text.encode("utf-16-be", "replace")
        return _added(block, photo=[Tag(_USER_COMMENT, UNDEFINED, comment)])
    if text.keyword == "Title":
        return _added(
            block, [Tag(_TITLE, BYTE, text.text.encode("utf-16-le", "replace") + b"\0\0")]
        )
    if text.keyword in _WORKFLOW_TAGS:
        content = text.keyword.encode() + b":" + content
        return _added(block, [Tag(_WORKFLOW_TAGS[text.keyword], ASCII, content)])
    if text.keyword in _ASCII_TAGS:
        return _added(block, [Tag(_ASCII_TAGS[text.keyword], ASCII, content)])
    return None


def _with_time(block: bytes | None, modified: datetime) -> bytes | None:
    """Return the block with a time; None where it has one already."""
    date = modified.strftime("%Y:%m:%d %H:%M:%S").encode() + b"\0"
    return _added(block, [Tag(_DATE, ASCII, date)], [Tag(_OFFSET, ASCII, b"+00:00\0")])


def _added(
    block: bytes | None, image: list[Tag] | None = None, photo: list[Tag] | None = None
) -> bytes | None:
    """Return the block with more tags; None where it has one of them, or is damaged."""
    wanted = {tag.number for tag in (*(image or ()), *(photo or ()))}
    if wanted & exif_tags.numbers(block):
        return None
    try:
        return exif_tags.added(block, image or [], photo or [])
    except ValueError:
        return None
