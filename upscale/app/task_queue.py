"""The queue: one thread runs one task after another."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

from upscale.app.tasks import CancelledError, FileState, Task, TaskState
from upscale.app.uploads import UploadStore
from upscale.errors import UsageError
from upscale.jobs.events import error_text

MOST_TASKS = 500


class TaskQueue:
    """Run tasks in the order in which they were added.

    Args:
        run: Function that runs a task; called in the thread of the queue.
        store: Uploads, which are removed with the last task that has them.
    """

    def __init__(self, run: Callable[[Task], None], store: UploadStore) -> None:
        self._run = run
        self._store = store
        self._tasks: dict[str, Task] = {}
        self._change = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="upscale-app", daemon=True)
        self._thread.start()

    def all(self) -> list[Task]:
        """Return all tasks, the newest last."""
        with self._change:
            return list(self._tasks.values())

    def get(self, id: str) -> Task | None:
        """Return a task by its random name, None if there is none."""
        with self._change:
            return self._tasks.get(id)

    def add(self, task: Task) -> None:
        """Queue a task.

        Raises:
            UsageError: There are too many.
        """
        with self._change:
            if len(self._tasks) >= MOST_TASKS:
                raise UsageError(f"there are {MOST_TASKS} tasks already: remove some first")
            task.folder.mkdir(mode=0o700, exist_ok=True)
            self._tasks[task.id] = task
            self._change.notify_all()

    def cancel(self, task: Task) -> None:
        """Cancel a task; a running one ends at its next tile or frame."""
        with self._change:
            if task.state is TaskState.QUEUED:
                task.state = TaskState.CANCELLED
            elif task.state is TaskState.RUNNING:
                task.cancelling.set()

    def resume(self, task: Task) -> None:
        """Queue the files of a task again that are not finished, failed ones included."""
        with self._change:
            if task.state in (TaskState.QUEUED, TaskState.RUNNING):
                return
            task.prepare()
            self._tasks[task.id] = self._tasks.pop(task.id)  # behind the others
            self._change.notify_all()

    def remove(self, task: Task) -> None:
        """Remove a task with its uploads and its results that were not saved to a folder.

        Raises:
            UsageError: It is running.
        """
        with self._change:
            if task.state is TaskState.RUNNING:
                raise UsageError("the task is running: cancel it first")
            self._tasks.pop(task.id, None)
        shutil.rmtree(task.folder, ignore_errors=True)
        for file in task.files:
            if not self._store.is_staged(file.upload.id) and not self.uses(file.upload.id):
                self._store.remove(file.upload.id)

    def uses(self, upload_id: str) -> bool:
        """Return whether a task needs an upload; a comparison whose page is written does not."""
        tasks = [task for task in self.all() if task.page is None]
        return any(file.upload.id == upload_id for task in tasks for file in task.files)

    def close(self) -> None:
        """Cancel all tasks, and wait until the outputs that are being written are complete."""
        with self._change:
            self._is_closed = True
            for task in self._tasks.values():
                task.cancelling.set()
            self._change.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            self._run_one(task)

    def _next(self) -> Task | None:
        """Wait for a task; None when the queue is closed."""
        with self._change:
            while not self._is_closed:
                for task in self._tasks.values():
                    if task.state is TaskState.QUEUED:
                        task.state = TaskState.RUNNING
                        return task
                self._change.wait()
            return None

    def _run_one(self, task: Task) -> None:
        state = TaskState.FAILED
        try:
            self._run(task)
            state = _state_of_files(task)
        except CancelledError:
            state = TaskState.CANCELLED
        except Exception as error:  # every failure becomes the state of its task
            task.error = task.readable(error_text(error))
            for file in task.pending:
                file.state = FileState.FAILED
        task.progress.end()
        for file in task.pending:
            if file.state is FileState.RUNNING:
                file.state = FileState.WAITING
        task.detail = ""
        with self._change:
            task.state = state


def _state_of_files(task: Task) -> TaskState:
    failed = sum(file.state is FileState.FAILED for file in task.files)
    if not failed:
        return TaskState.DONE
    return TaskState.FAILED if failed == len(task.files) else TaskState.SOME_FAILED
