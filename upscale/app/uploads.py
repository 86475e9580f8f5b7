"""Uploads: bounded in size and number, in a private folder, under random names."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from upscale.app.names import safe_parts
from upscale.errors import UpscaleError
from upscale.files.error_mapping import one_line
from upscale.jobs.inputs import is_video

_WRITE_BYTES = 1 << 20
_ID_BYTES = 12


class UploadError(UpscaleError):
    """An upload is larger than allowed, or cannot be stored."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much may be uploaded.

    Attributes:
        files: Largest number of files that are kept at a time.
        file_bytes: Largest size of one file in bytes.
        total_bytes: Largest size of all files that are kept at a time, in bytes.
    """

    files: int = 2000
    file_bytes: int = 16 << 30
    total_bytes: int = 64 << 30


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was uploaded.

    Attributes:
        id: Random name.
        name: Name for people, with the folder that was dropped: `holiday/sea/1.jpg`.
        folder: Name of that folder; empty for a file that was dropped by itself.
        root: Folder that contains this upload alone; it stands for the folder that was dropped.
        path: The file, below `root`.
        size: Length in bytes.
        is_video: Whether it is a video.
    """

    id: str
    name: str
    folder: str
    root: Path
    path: Path
    size: int
    is_video: bool


class UploadStore:
    """Keep uploads until they are removed.

    Args:
        folder: Private folder.
        limits: How much may be uploaded.
    """

    def __init__(self, folder: Path, limits: UploadLimits) -> None:
        self.limits = limits
        self._folder = folder
        self._uploads: dict[str, Upload] = {}
        self._started: set[str] = set()
        self._bytes = 0
        self._receiving = 0
        self._lock = threading.Lock()

    def all(self) -> list[Upload]:
        """Return the uploads in the order of their arrival."""
        with self._lock:
            return list(self._uploads.values())

    def get(self, id: str) -> Upload | None:
        """Return an upload by its random name, None if there is none."""
        with self._lock:
            return self._uploads.get(id)

    def staged(self) -> list[Upload]:
        """Return the uploads that wait for a start, in the order of their arrival."""
        return [upload for upload in self.all() if self.is_staged(upload.id)]

    def is_staged(self, id: str) -> bool:
        """Return whether an upload waits for a start."""
        return id not in self._started

    def start(self, ids: Iterable[str]) -> None:
        """Note that tasks were started for uploads; they are removed with these tasks."""
        self._started.update(ids)

    def remove(self, id: str) -> None:
        """Delete an upload; one that does not exist is ignored."""
        with self._lock:
            upload = self._uploads.pop(id, None)
            if upload is None:
                return
            self._bytes -= upload.size
            self._started.discard(id)
        shutil.rmtree(upload.root, ignore_errors=True)

    async def receive(self, name: str, length: int | None, chunks: AsyncIterator[bytes]) -> Upload:
        """Store a file; nothing stays of one that is too large or breaks off.

        Args:
            name: Name that the browser sent, with `/` between folders.
            length: Length in bytes that the browser announces; None if it is unknown.
            chunks: The content.

        Raises:
            UploadError: The file exceeds a limit, or cannot be written.
        """
        self._begin(length or 0)
        id = secrets.token_urlsafe(_ID_BYTES)
        root = self._folder / id
        parts = safe_parts(name)
        path = root.joinpath(*(parts[1:] or parts))
        size = 0
        try:
            path.parent.mkdir(parents=True, mode=0o700)
            with path.open("xb") as file:
                async for chunk in _joined(chunks):
                    size += len(chunk)
                    self._take(len(chunk), size)
                    await to_thread.run_sync(file.write, chunk)
            video = await to_thread.run_sync(is_video, path)
        except BaseException as error:
            self._end(-size)
            shutil.rmtree(root, ignore_errors=True)
            if isinstance(error, OSError):
                raise UploadError(f"the upload cannot be stored ({one_line(error)})") from error
            raise
        folder = parts[0] if len(parts) > 1 else ""
        upload = Upload(id, "/".join(parts), folder, root, path, size, video)
        with self._lock:
            self._uploads[id] = upload
        self._end(0)
        return upload

    def _begin(self, length: int) -> None:
        limits = self.limits
        free = shutil.disk_usage(self._folder).free
        with self._lock:
            if len(self._uploads) + self._receiving >= limits.files:
                raise UploadError(f"there are {limits.files} files already: remove some first")
            self._check(length, self._bytes + length)
            if length > free:
                raise UploadError(f"the disk has room for {free} bytes only: free some space")
            self._receiving += 1

    def _take(self, more: int, size: int) -> None:
        """Count bytes that arrived, whatever length was announced."""
        with self._lock:
            self._bytes += more
            self._check(size, self._bytes)

    def _check(self, size: int, total: int) -> None:
        limits = self.limits
        if size > limits.file_bytes:
            raise UploadError(f"the file is larger than {limits.file_bytes} bytes, the limit")
        if total > limits.total_bytes:
            raise UploadError(
                f"all files together are larger than {limits.total_bytes} bytes, the limit: "
                "remove some first"
            )

    def _end(self, more: int) -> None:
        with self._lock:
            self._receiving -= 1
            self._bytes += more


async def _joined(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield larger chunks, as each is written by a thread."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if len(pending) >= _WRITE_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
