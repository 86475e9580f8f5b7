"""Run the default command: plan the outputs, upscale the images, return the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from upscale.cli.batch_view import BatchView
from upscale.cli.session import Session
from upscale.cli.shared_options import check_cluster
from upscale.cli.zero_shot import check_zero_shot, make_zero_shot, zero_shot_info
from upscale.errors import ExitCode, ImageError, OutputError, UsageError
from upscale.images import is_lossy, label_of
from upscale.jobs import (
    ImageJob,
    JobResult,
    Listener,
    ModelInfo,
    Plan,
    Status,
    find_model_info,
    make_plan,
    read_names,
    run_batch,
    run_jobs,
)
from upscale.jobs.faces import FaceFactory
from upscale.jobs.inputs import DEFAULT_MAX_INPUT, read_stream
from upscale.jobs.loading import face_factory, make_upscaler
from upscale.jobs.plain_resize import NAME as PLAIN_RESIZE
from upscale.jobs.plain_resize import PlainResize
from upscale.jobs.shares import share_of
from upscale.jobs.workers import AnyUpscaler, Devices
from upscale.options import EngineOptions, Options


def upscale_images(
    session: Session, inputs: Sequence[str], options: Options, *, checks_quality: bool = False
) -> int:
    """Upscale images and return the exit code.

    Args:
        session: Streams and environment.
        inputs: Files, folders, or `-` for standard input.
        options: Checked options.
        checks_quality: Say which formats have no quality setting.
    """
    check_zero_shot(options)
    with BatchView(session, options.report) as view:
        facts = _model_info(options)
        stdin = stdin_reader(session, options)
        inputs = all_inputs(inputs, options.run.files_from, stdin)
        plan = make_plan(inputs, options, facts, stdin, _confirmation(session, options))
        if options.run.shard is not None:
            plan = share_of(plan, options.run.shard)
        if checks_quality and not options.report.quiet:
            _print_note_on_quality(session, plan)
        _check_stdout(session, plan, options)
        results = _run(session, plan, options, view)
    return int(ExitCode.DONE if plan.is_empty_share else exit_code(results))


def _run(session: Session, plan: Plan, options: Options, view: BatchView) -> list[JobResult]:
    """Compute a plan."""
    stdout = session.stdout.buffer
    check_cluster(options)
    faces = face_factory(options, view)
    devices = {
        device: partial(_make_any, replace(options.engine, device=device), options, view)
        for device in options.engine.devices
    }
    return compute(plan, options, devices, view.listen, stdout, faces=faces)


def compute(
    plan: Plan,
    options: Options,
    devices: Devices,
    listener: Listener,
    stdout: BinaryIO,
    *,
    faces: FaceFactory | None = None,
) -> list[JobResult]:
    """Compute a plan on the cluster that the options name, if there is work, else here.

    Args:
        plan: Jobs, and results of inputs that need no work.
        options: Options of the command.
        devices: Factories of the upscalers of this machine, by device.
        listener: Function that is called with each event.
        stdout: Stream for jobs without a target.
        faces: Factory of what restores faces on this machine; None to restore none.

    Raises:
        UsageError: A factory finds that the request is impossible.
        DeviceError: There is no such cluster.
    """
    run = options.run
    if run.cluster is None or not any(isinstance(item, ImageJob) for item in plan.items):
        return run_batch(plan, options, devices, listener, stdout, faces=faces)
    from upscale.jobs.cluster import RayExecutor

    executor = RayExecutor(run.cluster, run.workers, options, stdout)
    return run_jobs(plan, executor, listener, skip_existing=options.output.skip_existing)


def _model_info(options: Options) -> ModelInfo:
    if options.faces.faces_only:
        return ModelInfo(PLAIN_RESIZE)
    if options.training.zero_shot:
        return zero_shot_info()
    return find_model_info(options.engine.model, options.size.needs_model_scale)


def stdin_reader(session: Session, options: Options) -> Callable[[], bytes]:
    """Return a function that reads all of standard input, up to the limit of the options."""
    return partial(read_stream, "-", session.stdin, options.run.max_input or DEFAULT_MAX_INPUT)


def all_inputs(
    inputs: Sequence[str], list_file: str | None, stdin: Callable[[], bytes]
) -> list[str]:
    """Return the inputs of the command line followed by those of a list.

    Args:
        inputs: Inputs of the command line.
        list_file: File that lists inputs, or `-` for standard input; None for no list.
        stdin: Function that reads all of standard input.

    Raises:
        UsageError: Standard input would be read twice.
        ImageError: There is no input.
    """
    if list_file is None:
        return list(inputs)
    if list_file == "-" and "-" in inputs:
        raise UsageError("--files-from -: standard input cannot be both the list and an image")
    names = read_names(stdin() if list_file == "-" else Path(list_file).read_bytes())
    if not names and not inputs:
        raise ImageError(f"--files-from {list_file}: the list is empty")
    return [*inputs, *names]


def exit_code(results: Sequence[JobResult]) -> ExitCode:
    """Return the exit code of a batch; a batch without images has failed.

    An output of a damaged image counts as partly failed, as that of a damaged video does.
    """
    failed = sum(result.status is Status.FAILED for result in results)
    if not results or failed == len(results):
        return ExitCode.FAILED
    is_partial = failed or any(result.damaged for result in results)
    return ExitCode.SOME_FAILED if is_partial else ExitCode.DONE


def _confirmation(session: Session, options: Options) -> Callable[[str], bool] | None:
    """Return the function that asks on the terminal; None if nobody can answer."""
    can_ask = session.stdin.isatty() and session.stderr.isatty()
    if not can_ask or options.report.quiet or options.run.dry_run:
        return None
    return session.confirm


def _print_note_on_quality(session: Session, plan: Plan) -> None:
    """Say once that `--quality` has no effect on some of the formats."""
    formats = {item.format for item in plan.items if isinstance(item, ImageJob)}
    without = sorted(label_of(format) for format in formats if not is_lossy(format))
    if without:
        session.say(f"note: --quality has no effect on {', '.join(without)}")


def _check_stdout(session: Session, plan: Plan, options: Options) -> None:
    if not any(isinstance(item, ImageJob) and item.target is None for item in plan.items):
        return
    if options.report.json:
        raise UsageError("--json cannot be combined with an image on standard output: use -o FILE")
    if not session.has_stdout:
        raise OutputError("-o -: standard output is closed; redirect it, or use -o FILE")
    if session.stdout.isatty():
        raise UsageError("standard output is a terminal: redirect it, or use -o FILE")


def _make_any(engine: EngineOptions, options: Options, view: BatchView) -> AnyUpscaler:
    """Return the upscaler of one device."""
    if options.faces.faces_only:
        return PlainResize()
    if not options.training.zero_shot:
        return make_upscaler(engine, view)
    from upscale.engine.device import device_notes

    view.notes(device_notes(engine.device, engine.precision))
    return make_zero_shot(engine, options.training)
