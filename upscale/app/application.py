"""The parts of a running server: uploads, queue, settings, and what starts a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from upscale import __version__
from upscale.app.image_run import output_options, run_images
from upscale.app.preview_run import run_preview
from upscale.app.settings import (
    VIDEO_SUFFIXES,
    Settings,
    SettingsReader,
    command_lines,
    name_template,
    preview_command,
)
from upscale.app.task_queue import TaskQueue
from upscale.app.tasks import Task, TaskFile, TaskKind, random_id
from upscale.app.uploads import Upload, UploadLimits, UploadStore
from upscale.app.video_run import result_name, run_video_task
from upscale.app.workspace import Workspace
from upscale.checkpoints import availability, catalog, face_catalog
from upscale.errors import UsageError
from upscale.images.formats import is_lossy, label_of, writable_traits
from upscale.options import AUTO, Options

_MOST_PREVIEWED = 4

_RUNNERS = {"images": run_images, "video": run_video_task, "preview": run_preview}


class Application:
    """Everything that a server has to do, apart from HTTP.

    Args:
        workspace: Private folder.
        environ: Environment variables.
        limits: How much may be uploaded.
        save_folder: Folder that results may be saved to; None for none.
        any_folder: Whether the page may name any folder of this machine.
    """

    def __init__(
        self,
        workspace: Workspace,
        environ: Mapping[str, str],
        limits: UploadLimits,
        *,
        save_folder: Path | None = None,
        any_folder: bool = False,
    ) -> None:
        self.reader = SettingsReader(environ, save_folder, any_folder)
        self.store = UploadStore(workspace.subfolder("uploads"), limits)
        self.queue = TaskQueue(_run, self.store)
        self._results = workspace.subfolder("results")

    def config(self) -> dict[str, object]:
        """Return what the page offers."""
        entries = catalog()
        purposes = {name: entry.purpose for name, entry in entries.items()}
        purposes[AUTO] = "chooses networks by the image"
        folder = self.reader.save_folder
        return {
            "version": __version__,
            "default_model": self.reader.default_model(),
            "models": [
                {
                    "name": name,
                    "purpose": purposes.get(name, ""),
                    "is_absent": name in entries and availability(entries[name]) == "absent",
                }
                for name in self.reader.model_names()
            ],
            "face_models": list(face_catalog()) if find_spec("spandrel") else [],
            "formats": [
                {"name": name, "label": label_of(name), "is_lossy": is_lossy(name)}
                for name in writable_traits()
            ],
            "containers": list(VIDEO_SUFFIXES),
            "save_folder": "" if folder is None else str(folder),
            "any_folder": self.reader.any_folder,
            "home": str(Path.home()) if self.reader.any_folder else "",
            "max_file_bytes": self.store.limits.file_bytes,
        }

    def commands(self, form: object, ids: object) -> list[str]:
        """Return the command lines that do what the page asks for.

        Raises:
            UsageError: A setting is invalid.
        """
        return self._commands(self.reader.read(form), self._uploads(ids))

    def start(self, form: object, ids: object, *, is_preview: bool = False) -> list[Task]:
        """Queue what the page asks for: one task for all images, and one for each video.

        Raises:
            UsageError: A setting is invalid, or there are no files.
        """
        settings, uploads = self.reader.read(form), self._uploads(ids)
        images = [upload for upload in uploads if not upload.is_video]
        videos = [upload for upload in uploads if upload.is_video]
        if is_preview:
            tasks = [self._preview(settings, uploads)]
        else:
            options = self._image_options(settings)
            tasks = [self._task("images", settings, images, options)] if images else []
            options = self._video_options(settings)
            tasks += [self._task("video", settings, [video], options) for video in videos]
        if not tasks:
            raise UsageError("there are no files: drop some on the page first")
        for task in tasks:
            self.queue.add(task)
        if not is_preview:
            self.store.start(upload.id for upload in uploads)
        return tasks

    def discard(self, upload: Upload) -> None:
        """Delete an upload that no task needs.

        Raises:
            UsageError: A task needs it.
        """
        if self.queue.uses(upload.id):
            raise UsageError(f"{upload.name}: a task needs it: remove that first")
        self.store.remove(upload.id)

    def find_file(self, id: str) -> TaskFile | None:
        """Return a file with a result by its random name, None if there is none."""
        files = (file for task in self.queue.all() for file in task.files)
        return next((file for file in files if file.id == id and file.output is not None), None)

    def _uploads(self, ids: object) -> list[Upload]:
        if not isinstance(ids, list):
            raise UsageError("uploads: is not a list")
        found = [self.store.get(str(id)) for id in cast(list[Any], ids)]
        if None in found:
            raise UsageError("a file is no longer there: drop it on the page again")
        return [upload for upload in found if upload is not None]

    def _commands(self, settings: Settings, uploads: Sequence[Upload]) -> list[str]:
        template = name_template(self._image_options(settings), uploads)
        options = self._video_options(settings)
        videos = [upload for upload in uploads if upload.is_video]
        names = [result_name(upload, options, settings.container) for upload in videos]
        return command_lines(settings, uploads, names, template)

    def _image_options(self, settings: Settings) -> Options:
        return self.reader.options(settings.of_images())

    def _video_options(self, settings: Settings) -> Options:
        return self.reader.options(settings.of_videos())

    def _preview(self, settings: Settings, uploads: Sequence[Upload]) -> Task:
        if len(settings.models) < 2:
            raise UsageError("choose two or more networks to compare")
        if not uploads:
            raise UsageError("there is no file to compare networks on: drop one on the page first")
        options = self._image_options(settings)
        return self._task("preview", settings, uploads[:_MOST_PREVIEWED], options)

    def _task(
        self, kind: TaskKind, settings: Settings, uploads: Sequence[Upload], options: Options
    ) -> Task:
        folder = self._results / random_id()
        files = [TaskFile(upload) for upload in uploads]
        if kind == "preview":
            images = [upload for upload in uploads if not upload.is_video]
            command = preview_command(settings, images)
        else:
            command = "\n".join(self._commands(settings, uploads))
        if kind == "images":
            template = name_template(options, uploads)
            options = output_options(options, str(settings.folder or folder), template)
        return Task(kind, settings, options, files, folder, command)

    def close(self) -> None:
        """Cancel all tasks, and wait for the outputs that are being written."""
        self.queue.close()


def _run(task: Task) -> None:
    _RUNNERS[task.kind](task)
