"""Run a task of one video; its journal lets it resume, as on the command line."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from upscale.app.settings import video_name
from upscale.app.tasks import FileState, Task
from upscale.app.uploads import Upload
from upscale.app.watch import Watch
from upscale.jobs import find_model_info
from upscale.jobs.loading import face_factory, make_upscaler
from upscale.jobs.naming import short_scale
from upscale.jobs.video import VideoReport, VideoSettings, plan_video, run_video
from upscale.jobs.video_devices import network_identity
from upscale.options import Options


def result_name(upload: Upload, options: Options, container: str) -> str:
    """Return the name of an upscaled video, for example `clip_x4.mp4`.

    Args:
        upload: The video.
        options: Its options.
        container: Suffix; empty for that of the input, if it can be written.
    """
    needs_scale = options.size.is_ratio and options.size.scale is None
    scale = options.size.scale or find_model_info(options.engine.model, needs_scale).scale
    return video_name(upload, options, short_scale(scale), container)


def run_video_task(task: Task) -> None:
    """Upscale the video of a task, or the part that an earlier run has not finished.

    Args:
        task: The task; its state and its result are written into it.

    Raises:
        UpscaleError: The video cannot be read, or its result not be written.
        CancelledError: The user has cancelled it; finished segments are kept.
    """
    for file in task.pending:
        options, watch = task.options, Watch(task)
        name = result_name(file.upload, options, task.settings.container)
        output = (task.settings.folder or task.folder) / name
        output.parent.mkdir(parents=True, exist_ok=True)
        if task.settings.flags.get("skip_existing") and output.is_file():
            file.state, file.message, file.output = FileState.SKIPPED, f"{name} exists", output
            continue
        file.state = FileState.RUNNING
        report = _upscale(file.upload.path, output, options, watch)
        file.state, file.output = FileState.DONE, output
        watch.notes(report.notes)
        file.message = _description(report)


def _upscale(source: Path, output: Path, options: Options, watch: Watch) -> VideoReport:
    engine = options.engine
    facts = find_model_info(engine.model, options.size.needs_model_scale)
    settings = VideoSettings(
        overwrite=options.output.overwrite,
        max_pixels=options.run.max_pixels,
        keep_colour=engine.keep_colour,
        steady=options.video.steady,
    )
    job = plan_video(
        source, output, partial(options.size.resolve, model_scale=facts.scale), settings
    )
    watch.notes(job.notes)
    upscalers = [make_upscaler(replace(engine, device=device), watch) for device in engine.devices]
    identity = network_identity(upscalers, options)
    faces = face_factory(options, watch)
    return run_video(job, upscalers, identity, watch.frames, watch.note, faces=faces)


def _description(report: VideoReport) -> str:
    frames = f"{report.frames} frame{'s' * (report.frames != 1)} in {report.seconds:.1f} s"
    resumed = f", {report.resumed} of them by an earlier run" if report.resumed else ""
    corrupt = len(report.lost) + len(report.damaged)
    return f"{frames}{resumed}{f', {corrupt} corrupt or lost' if corrupt else ''}"
