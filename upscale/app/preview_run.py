"""Compare networks on a part of an image, before anything long is started."""

from __future__ import annotations

from dataclasses import replace

from upscale.app.tasks import FileState, Task, TaskFile
from upscale.app.watch import Watch
from upscale.errors import ImageError, VideoError
from upscale.files.printable import printable
from upscale.images import encode_file
from upscale.jobs import Status, find_model_info
from upscale.jobs.comparison import ComparedModel, compare_models, write_page
from upscale.jobs.inputs import Finder, Source
from upscale.jobs.loading import face_factory, make_upscaler
from upscale.jobs.video_stills import video_stills
from upscale.options import AUTO, CompareOptions, EngineOptions

_PAGE = "comparison.html"


def run_preview(task: Task) -> None:
    """Upscale the most detailed part of each image with each network, and write a page.

    Args:
        task: The task; states and the page are written into it.

    Raises:
        UpscaleError: No network has upscaled any image.
        CancelledError: The user has cancelled it.
    """
    models = task.settings.models
    options = replace(task.options, compare=CompareOptions(models, "auto"))
    sources = [_source(file) for file in task.files]
    device = options.engine.devices[0]
    files = dict(zip((source.label for source in sources), task.files, strict=True))
    names = [ComparedModel(name, find_model_info(name, True)) for name in models]
    labels = [f"{source.stem}, {model.info.name}" for source in sources for model in names]
    watch = Watch(task, {}, dict.fromkeys(labels, 1.0))
    task.progress.unit = "results"
    sets, results = compare_models(
        Finder(False, None),
        sources,
        names,
        options,
        make=lambda name: make_upscaler(_engine(options.engine, name, device), watch),
        device=device,
        listener=watch.listen,
        faces=face_factory(options, watch),
    )
    for result in results:
        file = files.get(result.input)
        if result.status is Status.FAILED:
            watch.note(result.error or "")
        if file is not None:
            file.state = FileState.DONE
    page = task.folder / _PAGE
    title = f"{', '.join(files)}: {len(models)} networks"
    if not write_page(page, title, sets, overwrite=True):
        raise ImageError(task.notes.pop() if task.notes else "no network has upscaled an image")
    task.page = page


def _source(file: TaskFile) -> Source:
    """Return what networks are compared on: the image, or the middle frame of a video."""
    label, path = printable(file.upload.name), file.upload.path
    if not file.upload.is_video:
        return Source(label, path)
    ((_, frame),) = video_stills(path, 1) or [(0.0, None)]
    if frame is None:
        raise VideoError(f"{label}: its middle frame cannot be decoded")
    return Source(label, encode_file(frame, "png"))


def _engine(engine: EngineOptions, model: str, device: str) -> EngineOptions:
    """Return the options for a network; a fidelity is only for `auto`."""
    fidelity = engine.fidelity if model == AUTO else None
    return replace(engine, model=model, device=device, fidelity=fidelity)
