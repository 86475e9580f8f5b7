"""Where the frames of a video are computed: an interface for each place, and local devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from upscale.jobs.auto import AutoUpscaler, ChoiceRecord, choice_record
from upscale.jobs.face_models import find_face_models
from upscale.jobs.faces import FaceFactory
from upscale.jobs.model_info import model_digest
from upscale.jobs.pipeline import WaitTimes
from upscale.jobs.video_faces import FaceRecord, VideoFaces, find_tracked
from upscale.jobs.video_frames import FrameOptions, TensorUpscaler
from upscale.jobs.video_plan import VideoJob
from upscale.jobs.video_samples import video_samples
from upscale.jobs.video_segments import SegmentRunner, Segments
from upscale.options import Options
from upscale.video.segments import SegmentStore

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.faces.face import Face
    from upscale.selection import Choice

Tracked = dict[int, list["Face"]]
"""Faces by the time of their frame."""

AnyNetwork = TensorUpscaler | AutoUpscaler


@dataclass(frozen=True, slots=True)
class ComputedFrames:
    """What was done for the pending segments of a video.

    Attributes:
        frames: Number of frames that the networks computed.
        restored: Number of frames of unfinished segments that an earlier run had computed.
        waits: How long the networks waited in total.
    """

    frames: int
    restored: int
    waits: WaitTimes


class VideoDevices(Protocol):
    """Compute the segments of a video, on local devices or on other machines.

    The methods are called in their order here, by one thread.

    Attributes:
        chooses: Whether `choose` chooses the networks, because the user named none.
        restores_faces: Whether faces are restored, which `find_faces` finds.
    """

    chooses: bool
    restores_faces: bool

    def open(self, job: VideoJob, digest: str) -> None:
        """Take a planned video, and the SHA-256 of its source.

        Raises:
            DeviceError: No device can be used.
        """
        ...

    def choose(self) -> ChoiceRecord:
        """Choose networks for all frames."""
        ...

    def use(self, choice: Choice | None) -> None:
        """Use the networks that were chosen, by this run or an earlier one."""
        ...

    def resolve_kernels(self, record: dict[str, Any]) -> dict[str, Any]:
        """Choose the kernels for all frames; see `Upscaler.resolve_kernels`."""
        ...

    def resolve_tile(self, tile: int | None) -> int:
        """Choose one tile size for all frames; see `Upscaler.resolve_tile`."""
        ...

    def find_faces(self) -> FaceRecord:
        """Find and track the faces of all frames."""
        ...

    def compute(
        self,
        store: SegmentStore,
        options: FrameOptions,
        tracked: Tracked | None,
        advance: Callable[[int], None],
        check_source: Callable[[], None],
    ) -> ComputedFrames:
        """Compute all pending segments, and enter them into the journal of a store.

        Args:
            store: Store of the segments.
            options: Options for the frames, without faces.
            tracked: Faces to restore; None for none.
            advance: Callback for the number of frames that are finished, from several threads, but
                one at a time. It is negative for frames that were lost with a worker.
            check_source: Function that raises an error if the source has changed.

        Raises:
            VideoError: The source cannot be read.
            OutputError: A segment cannot be written.
            DeviceError: No device can be used any more.
        """
        ...


class LocalVideo:
    """Compute the segments of a video on the devices of this machine; see `VideoDevices`.

    Args:
        upscalers: Upscalers, one for each device.
        faces: Factory of what restores faces, by device; None to restore none.
    """

    def __init__(self, upscalers: Sequence[AnyNetwork], faces: FaceFactory | None = None) -> None:
        self.chooses = isinstance(upscalers[0], AutoUpscaler)
        self.restores_faces = faces is not None
        self._given, self._faces = upscalers, faces
        self._upscalers: list[TensorUpscaler] = []

    def open(self, job: VideoJob, digest: str) -> None:
        """Take a planned video."""
        del digest
        self._job = job

    def choose(self) -> ChoiceRecord:
        """Choose networks for all frames with the first device."""
        first = self._given[0]
        assert isinstance(first, AutoUpscaler)
        video, settings = self._job.video, self._job.settings
        return choice_record(first.choose(video_samples(video, deinterlace=settings.deinterlace)))

    def use(self, choice: Choice | None) -> None:
        """Use the networks that were chosen."""
        self._upscalers = [_chosen(upscaler, choice) for upscaler in self._given]

    def resolve_kernels(self, record: dict[str, Any]) -> dict[str, Any]:
        """Choose the kernels of all devices."""
        for upscaler in self._upscalers:
            record = upscaler.resolve_kernels(record)
        return record

    def resolve_tile(self, tile: int | None) -> int:
        """Choose the tile size on the first device, and use it on all of them."""
        first, *others = self._upscalers
        size = self._job.video.width, self._job.video.height
        tile = first.resolve_tile(*size, tile)
        for other in others:
            other.resolve_tile(*size, tile)
        return tile

    def find_faces(self) -> FaceRecord:
        """Find and track the faces of all frames on the first device."""
        assert self._faces is not None
        return find_tracked(self._job, self._faces(str(self._upscalers[0].device)))

    def compute(
        self,
        store: Segments,
        options: FrameOptions,
        tracked: Tracked | None,
        advance: Callable[[int], None],
        check_source: Callable[[], None],
    ) -> ComputedFrames:
        """Compute all pending segments."""
        if self._faces is not None:
            options = replace(options, faces=VideoFaces(self._faces, tracked))
        runner = SegmentRunner(
            self._job, store, lambda: advance(1), options, check_source=check_source
        )
        frames, waits = runner.run(self._upscalers)
        return ComputedFrames(frames, runner.restored, waits)


def _chosen(upscaler: AnyNetwork, choice: Choice | None) -> TensorUpscaler:
    if not isinstance(upscaler, AutoUpscaler):
        return upscaler
    assert choice is not None
    return upscaler.upscaler_for(choice)


def network_identity(
    upscalers: Sequence[Upscaler | FusedUpscaler | AutoUpscaler], options: Options
) -> dict[str, str]:
    """Return what a resumed run must share beside source and encoder, by names for users.

    Args:
        upscalers: Upscalers, one for each device.
        options: Options of the command.

    Raises:
        CheckpointError: There is no such model.
    """
    engine = options.engine
    identity = {
        "model": model_digest(engine.model, engine.denoise),
        "precision": joined(upscaler.precision_name for upscaler in upscalers),
        "kind of device": joined(upscaler.device_name.partition(":")[0] for upscaler in upscalers),
        "kernels": joined(upscaler.available_kernels for upscaler in upscalers),
        "options of the network": f"tta {engine.tta}, denoise {engine.denoise}",
    }
    if engine.fidelity is not None:
        identity["fidelity"] = str(engine.fidelity)
    if options.faces.is_on:
        identity["faces"] = find_face_models(options.faces).identity(options.faces)
    return identity


def joined(names: Iterable[str]) -> str:
    """Return the distinct names as text.

    Example:
        >>> joined(["cuda", "cpu", "cuda"])
        'cpu, cuda'
    """
    return ", ".join(sorted(set(names)))
