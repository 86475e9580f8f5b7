"""The default command's work: plan, run, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence

from upscale.cli.session import Session
from upscale.cli.view import BatchView
from upscale.errors import ExitCode, UsageError
from upscale.jobs import (
    BatchSettings,
    ImageJob,
    JobResult,
    ModelFacts,
    PictureUpscaler,
    Plan,
    Status,
    UpscalerFactory,
    WriteSettings,
    make_plan,
    model_facts,
    run_batch,
)
from upscale.options import EngineOptions, Options


def upscale_pictures(
    session: Session,
    inputs: Sequence[str],
    options: Options,
    *,
    factory: UpscalerFactory | None = None,
    facts: ModelFacts | None = None,
) -> int:
    """Do what the default command was asked for and return the exit code.

    Args:
        session: Streams and environment.
        inputs: Files, folders, or `-`.
        options: Checked options.
        factory: Makes the upscaler; the real one by default.
        facts: What planning needs of the model; looked up by default.
    """
    settings = BatchSettings(
        jobs=options.run.jobs,
        max_pixels=options.run.max_pixels,
        write=WriteSettings(options.output.quality, options.output.overwrite),
    )
    with BatchView(session, options.report) as view:
        facts = facts or model_facts(options.engine.model, options.size.needs_model_scale)
        plan = make_plan(inputs, options, facts, session.stdin.read)
        _check_stdout(session, plan, options)
        make = factory or (lambda: make_upscaler(options.engine, view))
        results = run_batch(plan, settings, make, view.listen, session.stdout.buffer)
    return int(exit_code(results))


def exit_code(results: Sequence[JobResult]) -> ExitCode:
    """Return the exit code of a batch: all well, some failed, or all failed (or none found)."""
    failed = sum(result.status is Status.FAILED for result in results)
    if not results or failed == len(results):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _check_stdout(session: Session, plan: Plan, options: Options) -> None:
    if not any(isinstance(item, ImageJob) and item.target is None for item in plan.items):
        return
    if options.report.json:
        raise UsageError("--json and a picture both want standard output: give -o FILE")
    if session.stdout.isatty():
        raise UsageError("standard output is a terminal: redirect it, or give -o FILE")


def make_upscaler(engine: EngineOptions, view: BatchView) -> PictureUpscaler:
    """Load the network; one that has to be fetched is fetched first, with a bar."""
    from upscale import Upscaler
    from upscale.checkpoints import catalog, is_present, known_name, locate

    name = known_name(engine.model)
    if name is not None and is_present(catalog()[name]) == "absent":
        with view.fetching(name) as progress:
            locate(catalog()[name], progress)
    return Upscaler(
        engine.model,
        device=engine.device,
        precision=engine.precision,
        tile=engine.tile,
        tta=engine.tta,
        denoise=engine.denoise,
    )
