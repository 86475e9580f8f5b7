"""Planning: inputs, outputs, sizes, formats and conflicts, decided before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.files.atomic import final_path
from upscale.files.claims import Claim, claim_output
from upscale.files.identity import file_ids, is_same_file
from upscale.files.printable import printable
from upscale.files.regular import is_empty_file, special_kind
from upscale.images import (
    DEFAULT_MAX_PIXELS,
    can_hold,
    format_of,
    own_format_reason,
    read_size,
)
from upscale.jobs.events import JobResult, Status, error_text, path_text, traceback_text
from upscale.jobs.image import ImageJob
from upscale.jobs.inputs import (
    DEFAULT_MAX_INPUT,
    FALLBACK_FORMAT,
    Finder,
    Source,
    extension,
    own_format,
    reject_address,
    unreadable,
)
from upscale.jobs.model_info import ModelInfo
from upscale.jobs.naming import (
    BESIDE_BY_SCALE,
    BESIDE_BY_SIZE,
    IN_FOLDER,
    NameFields,
    check_template,
    model_label,
    render,
    short_scale,
)
from upscale.jobs.outputs import (
    ClaimedOutputs,
    Destination,
    choose_destination,
    format_argument,
)
from upscale.options import Options


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a batch.

    Attributes:
        items: Jobs in order; inputs that need no work, or cannot be processed, are results.
        ignored: Number of files in folders that are not images.
        elsewhere: Number of inputs that belong to other shards.
    """

    items: tuple[ImageJob | JobResult, ...]
    ignored: int = 0
    elsewhere: int = 0

    @property
    def is_empty_share(self) -> bool:
        """Whether there are inputs, but none for this shard."""
        return not self.items and self.elsewhere > 0


def make_plan(
    inputs: Sequence[str],
    options: Options,
    model: ModelInfo,
    stdin: Callable[[], bytes],
    confirm: Callable[[str], bool] | None = None,
) -> Plan:
    """Find the inputs and decide their outputs; nothing is written.

    Args:
        inputs: Files, folders, or `-`, as the user named them.
        options: Options of the command.
        model: Model that will be used.
        stdin: Function that reads all of standard input; called for `-` only.
        confirm: Function that asks the user whether to continue; None if nobody can be asked.

    Raises:
        UsageError: The request is impossible for all inputs alike.
    """
    requested_format = options.output.format
    if requested_format is not None:
        requested_format = format_argument("--format", requested_format)
    if options.output.name is not None:
        check_template(options.output.name)
    destination = choose_destination(options.output.output, inputs, requested_format)
    max_input = options.run.max_input or DEFAULT_MAX_INPUT
    finder = Finder(options.run.recursive, destination.path, max_input)
    sources = [source for name in inputs for source in finder.find(name, stdin)]
    planner = _Planner(options, model, destination, requested_format, sources, confirm=confirm)
    claimed = [planner.claim(source) for source in sources]
    items = [planner.decide(item) for item in claimed if item is not None]
    items += [_unplanned(error, model.name) for error in finder.failures]
    return Plan(tuple(items), finder.ignored)


class _Planner:
    """Decides one input after another and remembers which outputs are claimed."""

    def __init__(
        self,
        options: Options,
        model: ModelInfo,
        destination: Destination,
        requested_format: str | None,
        sources: Sequence[Source],
        *,
        confirm: Callable[[str], bool] | None,
    ) -> None:
        self._confirm = confirm
        self._options = options
        self._model = model
        self._destination = destination
        self._requested_format = requested_format
        self._input_ids = {
            file_id for s in sources if isinstance(s.data, Path) for file_id in file_ids(s.data)
        }
        self._outputs = ClaimedOutputs()
        self._writable: set[Path] = set()

    def claim(self, source: Source) -> ImageJob | JobResult | None:
        """Return a job with an output of its own, or a failure; None for a repeated input."""
        try:
            job = self._job(source)
        except UsageError:
            raise
        except (UpscaleError, OSError) as error:
            return replace(_unplanned(error, self._model.name), input=source.label)
        earlier = None if job.target is None else self._outputs.claim(job.target, source)
        if earlier is None:
            return job
        if earlier.is_same(source):
            return None
        advice = self._advice_on_clash(source, earlier)
        name, other = printable(source.label), printable(earlier.label)
        return _failed(job, f"{name}: has the same output as {other}: {advice}")

    def decide(self, item: ImageJob | JobResult) -> ImageJob | JobResult:
        """Return the job, or its result if there is nothing to do; all inputs are claimed."""
        if isinstance(item, JobResult):
            return item
        try:
            result = self._skipped_as_output(item) or self._check_target(item)
        except OSError as error:
            return uncomputed_result(item, Status.FAILED, error)
        if result is None and (reason := self._why_too_large(item)):
            return _failed(item, f"{printable(item.label)}: {reason}")
        if result is None and self._options.run.dry_run:
            return uncomputed_result(item, Status.PLANNED)
        return result or item

    def _advice_on_clash(self, source: Source, earlier: Source) -> str:
        """Return what gives two inputs different outputs."""
        template = self._template()
        if "{stem}" not in template:
            return "put {stem} into --name"
        if source.suffix.lower() != earlier.suffix.lower():
            return f"pass --name '{template.replace('{stem}', '{stem}_{suffix}')}'"
        if source.parent.lower() != earlier.parent.lower():
            return f"pass --name '{{folder}}/{template}'"
        return "process it separately with another -o"

    def _skipped_as_output(self, job: ImageJob) -> JobResult | None:
        """Skip an input that is an output of this batch, written by an earlier run."""
        if not self._options.output.skip_existing or not isinstance(job.source, Path):
            return None
        owner = self._outputs.owner(job.source)
        if owner is None or owner.data == job.source:
            return None
        result = uncomputed_result(job, Status.SKIPPED)
        return replace(result, notes=(*result.notes, f"is the output of {printable(owner.label)}"))

    # --- jobs ----------------------------------------------------------------------------------

    def _job(self, source: Source) -> ImageJob:
        size_in = _read_size(source)
        self._check_pixels(source, size_in)
        size_out = self._options.size.resolve(size_in, self._model.scale)
        format, note = self._format(source, size_out)
        job = ImageJob(
            label=source.label,
            source=source.data,
            target=None,
            format=format,
            size_in=size_in,
            size_out=size_out,
            model=self._model.name,
            note=note,
        )
        return replace(job, target=self._target(source, job))

    def _check_pixels(self, source: Source, size: tuple[int, int]) -> None:
        limit = self._options.run.max_pixels or DEFAULT_MAX_PIXELS
        if size[0] * size[1] > limit:
            raise ImageError(
                f"{printable(source.label)}: {size[0]}x{size[1]} exceeds the limit of {limit} "
                "pixels: pass a higher --max-pixels if you trust the file"
            )

    def _why_too_large(self, job: ImageJob) -> str | None:
        """Return why an output of this size is not computed, None if it is."""
        run, (width, height) = self._options.run, job.size_out
        pixels, limit = width * height, run.max_output_pixels or DEFAULT_MAX_PIXELS
        if run.yes or pixels <= limit:
            return None
        size = f"the output would have {width}x{height} = {pixels / 1e6:.3g} megapixels"
        if self._confirm is None:
            return f"{size}: pass --yes, or a higher --max-output-pixels, if that is what you want"
        if self._confirm(f"{printable(job.label)}: {size}; continue?"):
            return None
        return f"{size}: not confirmed"

    def _format(self, source: Source, size: tuple[int, int]) -> tuple[str, str | None]:
        """Return the format to write, and a note if it is not the expected one."""
        path = self._destination.path
        chosen = self._requested_format
        if chosen is None and self._destination.kind == "file" and path is not None:
            chosen = format_of(path.suffix)
        if chosen is not None:
            if reason := _too_large(chosen, size):
                raise OutputError(f"{printable(source.label)}: {reason}: pass -f {FALLBACK_FORMAT}")
            return chosen, None
        reason = _own_format_reason(source, size)
        if reason is not None:
            clause, other = reason
            return other, f"{clause}, so it is written as {other}"
        return own_format(source) or FALLBACK_FORMAT, None

    def _target(self, source: Source, job: ImageJob) -> Path | None:
        kind, path = self._destination.kind, self._destination.path
        if kind == "stdout":
            return None
        if kind == "file":
            return path
        if path is None:
            folder = source.data.parent if isinstance(source.data, Path) else Path()
        else:
            folder = path / source.folder
        return folder / render(self._template(), self._fields(source, job))

    def _template(self) -> str:
        if self._options.output.name is not None:
            return self._options.output.name
        if self._destination.kind == "folder":
            return IN_FOLDER
        return BESIDE_BY_SCALE if self._options.size.is_ratio else BESIDE_BY_SIZE

    def _fields(self, source: Source, job: ImageJob) -> NameFields:
        size = self._options.size
        scale = (size.scale or self._model.scale) if size.is_ratio else job.scale
        width, height = job.size_out
        return NameFields(
            stem=source.stem,
            suffix=source.suffix,
            folder=source.parent or "root",
            scale=short_scale(scale),
            model=model_label(self._model.name),
            width=width,
            height=height,
            ext=extension(source, job.format),
        )

    # --- targets -------------------------------------------------------------------------------

    def _check_target(self, job: ImageJob) -> JobResult | None:
        """Return a result if the target must not be written, None if it may be."""
        target, output = job.target, self._options.output
        if target is None:
            return None
        final = final_path(target)
        if not _is_name_taken(final):
            return self._check_writable(job, target)
        if reason := self._why_not_replaceable(job, final):
            return _failed(job, f"{printable(target)}: {reason}")
        # A run that was killed on some drives leaves an empty file.
        if output.skip_existing and not is_empty_file(final):
            return uncomputed_result(job, Status.SKIPPED)
        if not output.overwrite and not output.skip_existing:
            return _failed(
                job, f"{printable(target)}: already exists: pass --overwrite or --skip-existing"
            )
        return self._check_writable(job, target)

    def _why_not_replaceable(self, job: ImageJob, target: Path) -> str | None:
        """Return why an existing target can be neither replaced nor skipped."""
        if target.is_dir():
            return "is a folder"
        if not target.exists():
            return "is a broken link: remove it"
        if kind := special_kind(target.stat().st_mode):
            return f"is {kind}: give another output name"
        is_own_input = isinstance(job.source, Path) and is_same_file(target, job.source)
        skips = self._options.output.skip_existing
        if is_own_input or (not skips and self._input_ids & file_ids(target)):
            return "would replace an input: pass another -o"
        return None

    def _check_writable(self, job: ImageJob, target: Path) -> JobResult | None:
        """Fail before the computation if the target's folder cannot be written."""
        folder = target.parent
        if folder in self._writable:
            return None
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if folder.is_dir() and os.access(folder, os.W_OK):
            self._writable.add(target.parent)
            return None
        reason = "is not writable" if folder.is_dir() else "is not a folder"
        return _failed(job, f"{printable(target)}: {printable(folder)} {reason}")


def _read_size(source: Source) -> tuple[int, int]:
    reject_address(source.label)
    try:
        return read_size(source.data)
    except ImageError as error:
        raise unreadable(source, error) from error


def _own_format_reason(source: Source, size: tuple[int, int]) -> tuple[str, str] | None:
    try:
        return own_format_reason(source.data, size)
    except ImageError as error:
        raise unreadable(source, error) from error


def _too_large(format: str, size: tuple[int, int]) -> str | None:
    """Return why a format cannot hold an image of `size`; alpha and depth are checked later."""
    reason = can_hold(format, alpha=False, depth=8, width=size[0], height=size[1])
    return reason and f"{size[0]}x{size[1]}: {reason}"


def _is_name_taken(path: Path) -> bool:
    """Whether a name is taken, also by a broken link; OSError for impossible names."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def uncomputed_result(job: ImageJob, status: Status, error: Exception | None = None) -> JobResult:
    """Return the result of a job that is not computed, or that an exception ended."""
    return JobResult(
        input=job.label,
        output=path_text(job.target),
        status=status,
        model=job.model,
        scale=job.scale,
        size_in=job.size_in,
        size_out=job.size_out,
        notes=() if job.note is None or error is not None else (job.note,),
        error=None if error is None else error_text(error),
        trace=None if error is None else traceback_text(error),
    )


def claim_or_skip(job: ImageJob) -> Claim | JobResult | None:
    """Claim the output of a job right before the work, or skip what other processes do.

    Args:
        job: A job whose output is skipped if it exists.

    Returns:
        The claim; a result if another process has written the output since it was planned, or is
        working on it; None for standard output.
    """
    if job.target is None:
        return None
    claim = claim_output(job.target)
    if claim is None:
        result = uncomputed_result(job, Status.SKIPPED)
        return replace(result, notes=(*result.notes, "another process is working on it"))
    if job.target.is_file() and not is_empty_file(job.target):
        claim.release()
        return uncomputed_result(job, Status.SKIPPED)
    return claim


def _failed(job: ImageJob, message: str) -> JobResult:
    return uncomputed_result(job, Status.FAILED, OutputError(message))


def _unplanned(error: UpscaleError | OSError, model: str) -> JobResult:
    """Return the failure of an input for which no job could be made."""
    return JobResult(
        input=str(error).partition(":")[0],
        output=None,
        status=Status.FAILED,
        model=model,
        error=error_text(error),
        trace=traceback_text(error),
    )
