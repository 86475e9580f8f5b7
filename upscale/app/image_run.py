"""Run a task of images through the jobs of the command line."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from upscale.app.tasks import FileState, Task, TaskFile
from upscale.app.watch import Watch
from upscale.errors import UsageError
from upscale.jobs import ImageJob, find_model_info, make_plan, run_batch
from upscale.jobs.loading import face_factory, make_upscaler
from upscale.options import Options

_PIXELS = 1e6


def run_images(task: Task) -> None:
    """Upscale the pending images of a task.

    Args:
        task: The task; states and results are written into it.

    Raises:
        UpscaleError: The request is impossible for all images alike.
        CancelledError: The user has cancelled it; finished images are kept.
    """
    options = task.options
    files = {str(file.upload.path): file for file in task.pending}
    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    plan = make_plan([_input(file) for file in files.values()], options, facts, _no_stream)
    jobs = [item for item in plan.items if isinstance(item, ImageJob)]
    work = {job.label: job.size_out[0] * job.size_out[1] / _PIXELS for job in jobs}
    watch = Watch(task, files, work)
    devices = {
        device: partial(make_upscaler, replace(options.engine, device=device), watch)
        for device in options.engine.devices
    }
    run_batch(plan, options, devices, watch.listen, faces=face_factory(options, watch))
    for file in task.pending:
        if file.state is FileState.WAITING:
            file.state, file.message = FileState.IGNORED, "is not an image by its name"


def output_options(options: Options, task_folder: str, name: str | None) -> Options:
    """Return options whose results are written to a folder.

    Args:
        options: Options of the page.
        task_folder: The folder.
        name: Template of the names; None for that of the input.
    """
    output = replace(options.output, output=f"{task_folder}{os.sep}", name=name)
    return replace(options, output=output)


def _input(file: TaskFile) -> str:
    """Return what stands for a file: the file, or the folder that it was dropped with."""
    return str(file.upload.root if file.upload.folder else file.upload.path)


def _no_stream() -> bytes:
    raise UsageError("standard input is not an image of the page")
