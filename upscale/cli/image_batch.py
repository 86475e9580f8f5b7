"""Run the default command: plan the outputs, upscale the images, return the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.cli.batch_view import BatchView
from upscale.cli.session import Session
from upscale.errors import ExitCode, ImageError, UsageError
from upscale.images import is_lossy, label_of
from upscale.jobs import (
    ImageJob,
    JobResult,
    Plan,
    Status,
    find_model_info,
    make_plan,
    read_names,
    run_batch,
)
from upscale.options import EngineOptions, Options

if TYPE_CHECKING:
    from upscale import Upscaler


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
    with BatchView(session, options.report) as view:
        facts = find_model_info(options.engine.model, options.size.needs_model_scale)
        inputs = all_inputs(session, inputs, options.run.files_from)
        plan = make_plan(
            inputs, options, facts, session.stdin.read, _confirmation(session, options)
        )
        if checks_quality and not options.report.quiet:
            _print_note_on_quality(session, plan)
        _check_stdout(session, plan, options)
        devices = {
            device: partial(make_upscaler, replace(options.engine, device=device), view)
            for device in options.engine.devices
        }
        results = run_batch(plan, options, devices, view.listen, session.stdout.buffer)
    return int(exit_code(results))


def all_inputs(session: Session, inputs: Sequence[str], list_file: str | None) -> list[str]:
    """Return the inputs of the command line followed by those of a list.

    Args:
        session: Standard input.
        inputs: Inputs of the command line.
        list_file: File that lists inputs, or `-` for standard input; None for no list.

    Raises:
        UsageError: Standard input would be read twice.
        ImageError: There is no input.
    """
    if list_file is None:
        return list(inputs)
    if list_file == "-" and "-" in inputs:
        raise UsageError("--files-from -: standard input cannot be both the list and an image")
    names = read_names(session.stdin.read() if list_file == "-" else Path(list_file).read_bytes())
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
    if session.stdout.isatty():
        raise UsageError("standard output is a terminal: redirect it, or use -o FILE")


def make_upscaler(engine: EngineOptions, view: BatchView) -> Upscaler:
    """Load the network, after a download with a progress bar if it is not in the cache."""
    from upscale import Upscaler
    from upscale.checkpoints import availability, catalog, known_name, locate

    name = known_name(engine.model)
    if name is not None and availability(catalog()[name]) == "absent":
        with view.download(name) as progress:
            locate(catalog()[name], progress)
    return Upscaler(
        engine.model,
        device=engine.device,
        precision=engine.precision,
        tile=engine.tile,
        tta=engine.tta,
        denoise=engine.denoise,
        kernels=engine.kernels,
    )
