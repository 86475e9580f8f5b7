"""What a worker of a cluster does for a video: compute one segment after another.

It writes only temporary files. The driver keeps the segments, the journal and the lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale.errors import VideoError
from upscale.files.hashing import sha256_of
from upscale.files.printable import printable
from upscale.files.scratch import ScratchFolder
from upscale.jobs.auto import ChoiceRecord
from upscale.jobs.cluster_pool import versions
from upscale.jobs.cluster_worker import worker_faces
from upscale.jobs.faces import FaceFactory
from upscale.jobs.networks import make_networks
from upscale.jobs.pipeline import WaitTimes
from upscale.jobs.video_devices import LocalVideo, Tracked, network_identity
from upscale.jobs.video_faces import FaceRecord
from upscale.jobs.video_frames import FrameOptions
from upscale.jobs.video_plan import VideoJob
from upscale.options import EngineOptions, Options
from upscale.video.info import FrameFormat
from upscale.video.saved_frames import SavedFrames
from upscale.video.segments import CorruptFrames, Segment

if TYPE_CHECKING:
    import torch

    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.jobs.auto import AutoUpscaler
    from upscale.selection import Choice

MakeNetworks = Callable[[EngineOptions], "Upscaler | FusedUpscaler | AutoUpscaler"]

_FOLDER = "upscale-workers"


@dataclass(frozen=True, slots=True)
class VideoSetup:
    """What all workers must do in the same way.

    Attributes:
        choice: Networks that were chosen; None if the user named one.
        kernels: Record of the kernels.
        tile: Tile side in pixels of the source; 0 for no tiles.
        options: Options for the frames, without faces.
        tracked: Faces to restore; None for none.
    """

    choice: Choice | None
    kernels: dict[str, Any]
    tile: int
    options: FrameOptions
    tracked: Tracked | None


@dataclass(frozen=True, slots=True)
class ComputedSegment:
    """A segment on its way to the driver.

    Attributes:
        content: Content of its file; empty if all frames are lost.
        sha256: Digest of the file where it was written.
        times: Times of its frames.
        corrupt_frames: Frames that were decoded with problems.
        computed: Number of frames that the network has computed.
        waits: How long the network has waited.
        convolutions: Kernels that have computed the convolutions.
    """

    content: bytes
    sha256: str
    times: tuple[int, ...]
    corrupt_frames: CorruptFrames
    computed: int
    waits: WaitTimes
    convolutions: str


@dataclass(slots=True)
class _OneSegment:
    """A segment to compute, in place of a `SegmentStore`."""

    segment: Segment
    path: Path
    times: tuple[int, ...] = ()
    corrupt_frames: CorruptFrames = field(default_factory=CorruptFrames)

    @property
    def segments(self) -> Sequence[Segment]:
        return (self.segment,)

    @property
    def pending(self) -> Sequence[Segment]:
        return (self.segment,)

    def saved_frames(self, segment: Segment, format: FrameFormat) -> SavedFrames:
        """Keep none: another worker would not find them."""
        return SavedFrames(None, segment.number, format, len(segment.times))

    def create(self, segment: Segment) -> Path:
        del segment
        self.path.touch()
        return self.path

    def finish(
        self, segment: Segment, times: Sequence[int], corrupt_frames: CorruptFrames, /
    ) -> None:
        del segment
        self.times, self.corrupt_frames = tuple(times), corrupt_frames


class VideoWorker:
    """Compute segments of a video in a process of a cluster.

    Args:
        options: Options of the command.
        make: Function that loads the networks; None for the usual one.
    """

    def __init__(self, options: Options, make: MakeNetworks | None = None) -> None:
        self._options, self._make = options, make or make_networks
        self._faces: FaceFactory | None = None
        self._done = (-1, 0)

    def prepare(self) -> dict[str, str]:
        """Load the networks, and return what all workers must share, by names for users.

        Raises:
            UpscaleError: A network cannot be loaded, or the device not used.
        """
        upscaler = self._upscaler = self._make(self._options.engine)
        self._faces = worker_faces(self._options)
        self._local = LocalVideo([upscaler], self._faces)
        self._scratch = ScratchFolder(_FOLDER)
        card = {"card": _card(upscaler.device)}
        return {**versions(), **network_identity([upscaler], self._options), **card}

    def find_source(self, job: VideoJob, digest: str, name: str) -> bool:
        """Take a planned video, and return whether its source is on a drive that is shared.

        Args:
            job: The video, with an absolute path.
            digest: SHA-256 of the source.
            name: Path of the source as the user named it, for error messages.
        """
        self._job, self._digest, self._name = job, digest, name
        try:
            path = job.video.path
            is_here = path.stat().st_size == job.state.size and sha256_of(path) == digest
        except OSError:
            return False
        if is_here:
            self._local.open(job, digest)
        return is_here

    def receive(self, content: bytes, *, is_first: bool) -> None:
        """Take the next part of a source that is not shared."""
        with self._copy.open("wb" if is_first else "ab") as file:
            file.write(content)

    def accept(self) -> bool:
        """Use the source that was received, and return whether it has arrived undamaged."""
        if sha256_of(self._copy) != self._digest:
            return False
        self._job = replace(self._job, video=replace(self._job.video, path=self._copy))
        self._local.open(self._job, self._digest)
        return True

    def choose(self) -> ChoiceRecord:
        """Choose networks for all frames."""
        return self._local.choose()

    def resolve_kernels(self, choice: Choice | None, record: dict[str, Any]) -> dict[str, Any]:
        """Choose the kernels for all frames of the chosen networks."""
        self._local.use(choice)
        return self._local.resolve_kernels(record)

    def resolve_tile(self, choice: Choice | None, tile: int | None) -> int:
        """Choose the tile size for all frames of the chosen networks."""
        self._local.use(choice)
        return self._local.resolve_tile(tile)

    def find_faces(self, choice: Choice | None) -> FaceRecord:
        """Find and track the faces of all frames."""
        self._local.use(choice)
        return self._local.find_faces()

    def set_up(self, setup: VideoSetup) -> dict[str, object]:
        """Take what was chosen for all workers, and return what this worker uses, to compare."""
        self._setup = setup
        kernels = self.resolve_kernels(setup.choice, setup.kernels)
        tile = self._local.resolve_tile(setup.tile)
        return {"kernels": kernels, "tile": tile}

    def compute(self, segment: Segment) -> ComputedSegment:
        """Compute a segment, after `set_up`.

        Raises:
            VideoError: The source cannot be read.
            OutputError: The encoder fails.
            MemoryExhaustedError: Not even the smallest tiles fit into the memory.
        """
        one = _OneSegment(segment, self._scratch.path / f"{segment.number}.mkv")
        self._done = (segment.number, 0)
        setup = self._setup
        try:
            computed = self._local.compute(
                one, setup.options, setup.tracked, self._advance, lambda: None
            )
        except VideoError as error:
            path = printable(self._job.video.path)
            raise VideoError(str(error).replace(path, self._name)) from error
        content = one.path.read_bytes() if one.times else b""
        one.path.unlink(missing_ok=True)
        digest = hashlib.sha256(content).hexdigest()
        return ComputedSegment(
            content,
            digest,
            one.times,
            one.corrupt_frames,
            computed.frames,
            computed.waits,
            self._upscaler.convolutions,
        )

    def frames_done(self) -> tuple[int, int]:
        """Return the number of the current segment, and how many of its frames are finished."""
        return self._done

    def end(self) -> None:
        """Remove the temporary files."""
        self._scratch.remove()

    @property
    def _copy(self) -> Path:
        return self._scratch.path / f"source{self._job.video.path.suffix}"

    def _advance(self, frames: int) -> None:
        number, done = self._done
        self._done = number, done + frames


def _card(device: torch.device) -> str:
    """Return the name of a graphics card, whose kernels others may not have."""
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)
