"""Run `upscale video` for folders and several videos, one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from traceback import format_exc
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.cli.video_estimate import estimate_one, estimate_text
from upscale.cli.video_run import upscale_video
from upscale.errors import ExitCode, OutputError, UsageError
from upscale.files.claims import claim_output, empty_folders_removed
from upscale.files.printable import printable
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.jobs.events import Status
    from upscale.jobs.video import VideoSettings
    from upscale.jobs.video_batch import VideoBatch, VideoTask
    from upscale.jobs.video_estimate import VideoEstimate


def upscale_batch(
    session: Session,
    inputs: Sequence[str],
    folder: Path,
    settings: VideoSettings,
    options: Options,
    *,
    template: str | None,
    suffix: str | None,
    hint: str | None = None,
    estimate: bool = False,
) -> int:
    """Upscale several videos into a folder and return the exit code.

    Each gives the same output, and resumes in the same way, as by a command of its own.

    Args:
        session: Streams.
        inputs: Videos and folders, as the user named them.
        folder: Folder of the outputs.
        settings: Settings of all videos.
        options: Options of the command line.
        template: Template of the outputs' names; None for those of the inputs.
        suffix: Suffix of the outputs, such as `.mp4`; None for those of the inputs.
        hint: Remark on the choice of the network; None for none.
        estimate: Print what each video would take, in place of the work.
    """
    from upscale.jobs import find_model_info
    from upscale.jobs.video_batch import BatchNaming, plan_batch

    size = options.size
    facts = find_model_info(options.engine.model, size.needs_model_scale)
    scale = (size.scale or facts.scale) if size.is_ratio else None
    skips = options.output.skip_existing
    naming = BatchNaming(folder, template, suffix, facts.name, scale, skips)
    batch = plan_batch(inputs, naming, recursive=options.run.recursive)
    if not batch.tasks:
        raise OutputError(
            f"{printable(inputs[0])}: no videos found; use -r to include subfolders, or --fps if "
            "it holds numbered images"
        )
    view = _BatchRun(session, settings, options, facts.name, hint=hint, is_estimate=estimate)
    with empty_folders_removed({task.output.parent for task in batch.tasks}):
        try:
            for task in batch.tasks:
                view.run(task)
        finally:
            view.print_summary(batch)
    return int(view.exit_code())


def skip_if_done(session: Session, source: Path, output: Path, options: Options) -> bool:
    """Return whether the output of one video exists and is to be skipped, after saying so.

    Args:
        session: Streams.
        source: The video.
        output: Its output, or a pattern of images, of which any counts.
        options: Options of the command line.
    """
    from upscale.jobs.events import Status
    from upscale.jobs.video import video_record
    from upscale.jobs.video_batch import VideoTask
    from upscale.video.numbered_images import image_pattern

    if not options.output.skip_existing:
        return False
    pattern = image_pattern(output)
    is_done = VideoTask(source, output).is_done
    if pattern is not None and pattern.folder.is_dir():
        is_done = bool(pattern.numbers())
    if not is_done:
        return False
    if options.report.json:
        name = options.engine.model
        session.out_json(video_record(source, output, name, None, status=Status.SKIPPED))
    if not options.report.quiet:
        session.say(f"{printable(source)}: skipped, {printable(output)} exists")
    return True


class _BatchRun:
    """Upscales one video after another, and remembers what became of them."""

    def __init__(
        self,
        session: Session,
        settings: VideoSettings,
        options: Options,
        model: str,
        *,
        hint: str | None,
        is_estimate: bool,
    ) -> None:
        self._session, self._settings, self._options = session, settings, options
        self._model, self._hint = model, hint
        self._is_estimate = is_estimate
        self._estimates: list[VideoEstimate] = []
        self._counts: Counter[Status] = Counter()
        self._errors: dict[str, str] = {}
        self._start = perf_counter()

    def run(self, task: VideoTask) -> None:
        """Upscale a video; a failure is recorded, and does not stop the batch."""
        from upscale.jobs.events import Status, error_text

        try:
            status = self._upscale(task)
        except UsageError:
            raise
        except Exception as error:
            self._errors.setdefault(error_text(error), format_exc())
            status = Status.FAILED
        self._counts[status] += 1

    def _upscale(self, task: VideoTask) -> Status:
        from upscale.jobs.events import Status

        if task.error is not None:
            self._record(task, Status.FAILED, str(task.error))
            raise task.error
        if task.origin is not None and self._options.output.skip_existing:
            self._record(task, Status.SKIPPED)
            self._say(task, f"is the output of {printable(task.origin)}")
            return Status.SKIPPED
        if self._is_estimate and not (self._options.output.skip_existing and task.is_done):
            return self._estimate(task)
        if not self._options.output.skip_existing:
            self._run_alone(task)
            return Status.DONE
        claim = None if task.is_done else claim_output(task.output)
        if claim is None:
            is_other = not task.is_done
            self._record(task, Status.SKIPPED)
            name = printable(task.output)
            self._say(task, "another process is working on it" if is_other else f"{name} exists")
            return Status.SKIPPED
        try:
            if task.is_done:  # by another process, since it was looked for
                self._record(task, Status.SKIPPED)
                return Status.SKIPPED
            self._run_alone(task)
        finally:
            claim.release()
        return Status.DONE

    def _run_alone(self, task: VideoTask) -> None:
        if self._options.output.skip_existing and task.output.is_file():
            task.output.unlink()  # an empty file of a killed run, as `is_done` found
        hint, self._hint = self._hint, None
        upscale_video(
            self._session, task.source, task.output, self._settings, self._options, hint=hint
        )

    def _estimate(self, task: VideoTask) -> Status:
        from upscale.jobs.events import Status

        hint, self._hint = self._hint, None
        self._estimates.append(
            estimate_one(
                self._session, task.source, task.output, self._settings, self._options, hint=hint
            )
        )
        return Status.PLANNED

    def _record(self, task: VideoTask, status: Status, error: str | None = None) -> None:
        from upscale.jobs.video import video_record

        if self._options.report.json:
            record = video_record(
                task.source, task.output, self._model, None, error=error, status=status
            )
            self._session.out_json(record)

    def _say(self, task: VideoTask, reason: str) -> None:
        if self._options.report.verbose and not self._options.report.quiet:
            self._session.say(f"{printable(task.source)}: skipped, {reason}")

    def exit_code(self) -> ExitCode:
        """Return the exit code of a batch, as for images."""
        from upscale.jobs.events import Status

        failed = self._counts[Status.FAILED]
        if failed == self._counts.total():
            return ExitCode.FAILED
        return ExitCode.SOME_FAILED if failed else ExitCode.DONE

    def print_summary(self, batch: VideoBatch) -> None:
        """Print the counts and then the errors, which must not scroll out of view."""
        if not self._options.report.quiet:
            parts = [f"{count} {status}" for status, count in self._counts.items()]
            if batch.ignored:
                parts.append(f"{batch.ignored} other file{'s' * (batch.ignored != 1)} ignored")
            if unfinished := len(batch.tasks) - self._counts.total():
                parts.append(f"{unfinished} not finished")
            seconds = perf_counter() - self._start
            self._session.say(f"{', '.join(parts)} in {seconds:.1f} s")
        if len(self._estimates) > 1 and not self._options.report.quiet:
            total = sum(each.seconds for each in self._estimates)
            size = sum(each.size for each in self._estimates)
            self._session.say(f"all videos together: {estimate_text(total, size)}")
        for text, trace in self._errors.items():
            self._session.error(text, trace)
