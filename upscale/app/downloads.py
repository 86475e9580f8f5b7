"""Results as downloads: one file, or all files of a task in an archive."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from upscale.app.tasks import Task
from upscale.images import SNIFF_BYTES, sniff

_CHUNK_BYTES = 1 << 20
_MEMORY_BYTES = 1 << 24
_MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}


def media_type(path: Path) -> str:
    """Return the media type of a result, by its content; other kinds are plain bytes."""
    with path.open("rb") as file:
        format = sniff(file.read(SNIFF_BYTES))
    return _MEDIA_TYPES.get(format or "", "application/octet-stream")


def archive(task: Task) -> Iterator[bytes]:
    """Yield a ZIP archive of the results of a task; images are not compressed again."""
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(task.folder)) as buffer:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
            for path, name in zip(_outputs(task), _names(task), strict=True):
                target.write(path, name)
        buffer.seek(0)
        while chunk := buffer.read(_CHUNK_BYTES):
            yield chunk


def _outputs(task: Task) -> Sequence[Path]:
    return [file.output for file in task.files if file.output is not None]


def _names(task: Task) -> list[str]:
    """Return the names in the archive, below the folders that were dropped."""
    root = task.settings.folder or task.folder
    return [path.relative_to(root).as_posix() for path in _outputs(task)]
