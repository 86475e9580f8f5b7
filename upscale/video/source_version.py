"""The version of a source video: its content, and whether it changes while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from upscale.errors import VideoError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.identity import FileState, file_state
from upscale.files.printable import printable


def state_of_source(*files: Path) -> FileState:
    """Return what the file system says about a source; that of several files is combined.

    Args:
        files: The file of a video, or numbered images.

    Raises:
        VideoError: A file cannot be reached.
    """
    states: list[FileState] = []
    for path in files:
        try:
            states.append(file_state(path))
        except OSError as error:
            raise _unreadable(path, error) from error
    return _combined(states)


def _combined(states: Sequence[FileState]) -> FileState:
    """Return one state, which differs if a file was replaced: that changes its second time."""
    if len(states) == 1:
        return states[0]
    return FileState(
        device=states[0].device,
        number=len(states),
        size=sum(each.size for each in states),
        modified=sum(each.modified for each in states),
        changed=sum(each.changed for each in states),
    )


class SourceVersion:
    """The content of a source when a run began.

    The content decides, not the times of the file: a source that was copied or touched is the same,
    and one that was replaced by another of the same size and time is not. So all of it is read,
    which takes a small part of the time that its upscaling takes.

    Args:
        path: Source video, for messages.
        planned: State of the source before it was probed.
        files: Its files; by default, the video itself.

    Attributes:
        digest: SHA-256 of the content in hexadecimal.
        identity: Properties that identify the version, by names that users understand.

    Raises:
        VideoError: The file cannot be read, or has changed since then.
    """

    def __init__(self, path: Path, planned: FileState, files: Sequence[Path] = ()) -> None:
        self._path, self._state = path, planned
        self._files = files or (path,)
        self.digest = self._digest_of_all()
        if state_of_source(*self._files) != planned:
            raise self._changed("run the same command again")
        self.identity = {"source size": str(planned.size), "source content": self.digest}

    def check(self) -> None:
        """Check that the source is still the same; one that was moved away is not looked for.

        Raises:
            VideoError: The source has another content, or cannot be read.
        """
        try:
            state = _combined([file_state(path) for path in self._files])
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if state == self._state:
            return
        if state.size != self._state.size or self._digest_of_all() != self.digest:
            raise self._changed("run the same command again with --restart")
        self._state = state

    def _digest_of_all(self) -> str:
        digests = [_digest(path) for path in self._files]
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()

    def _changed(self, advice: str) -> VideoError:
        return VideoError(f"{printable(self._path)}: has changed since the run began; {advice}")


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> VideoError:
    return VideoError(f"{printable(path)}: cannot be read ({one_line(error)})")
