"""Networks at work for an evaluation: the same small images through each of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from upscale.cli import image_batch
from upscale.cli.batch_view import BatchView
from upscale.cli.eval_report import progress
from upscale.cli.session import Session
from upscale.errors import ImageError
from upscale.jobs import (
    Event,
    Finished,
    JobResult,
    ModelInfo,
    make_plan,
    run_batch,
)
from upscale.jobs.bicubic import upscale_bicubic
from upscale.jobs.model_info import model_digest
from upscale.jobs.naming import model_label
from upscale.options import (
    EngineOptions,
    Options,
    OutputOptions,
    ReportOptions,
    RunOptions,
    SizeOptions,
)

BICUBIC = "bicubic"


def upscale_bicubic_set(session: Session, low: Path, target: Path, scale: int) -> None:
    """UpscaleFunction the small images of a set with the bicubic filter, as far as that is not done."""
    sources = sorted(low.rglob("*.png"))
    with progress(session, BICUBIC, len(sources)) as advance:
        for source in sources:
            made = target / source.relative_to(low)
            if not made.exists():
                upscale_bicubic(source, made, scale)
            advance()


def upscale(
    session: Session,
    name: str,
    facts: ModelInfo,
    low: Path,
    target: Path,
    *,
    scale: int,
    device: str,
) -> list[JobResult]:
    """UpscaleFunction the small images with a network, as far as that is not done.

    Args:
        session: Streams.
        name: The network, as it was named.
        facts: What is known of it.
        low: The folder of the small images.
        target: The folder of the results.
        scale: Theirs.
        device: Where the network runs, as it was named.
    """
    engine = EngineOptions(model=name, device=device)
    options = Options(
        size=SizeOptions(scale=scale),
        engine=engine,
        output=OutputOptions(output=f"{target}/", format="png", skip_existing=True),
        run=RunOptions(recursive=True),
    )
    plan = make_plan([str(low)], options, facts, bytes)
    make = partial(image_batch.make_upscaler, engine, BatchView(session, ReportOptions()))
    with progress(session, facts.name, len(plan.items)) as advance:

        def listen(event: Event) -> None:
            if isinstance(event, Finished):
                advance()

        return run_batch(plan, options, {device: make}, listen, session.stdout.buffer)


def tell_pace(session: Session, label: str, results: Sequence[JobResult], *, as_json: bool) -> None:
    """Say how long a network took for the images of this run."""
    done = [result for result in results if result.seconds is not None]
    if not done:
        return
    facts = {
        "pictures": len(done),
        "seconds": round(sum(result.seconds or 0 for result in done), 3),
        "device": done[0].device,
        "precision": done[0].precision,
    }
    if as_json:
        session.out(json.dumps({"kind": "network", "version": label} | facts))
    else:
        session.say(
            "{}: {images} done in {seconds:.1f} s, {device} {precision}".format(label, **facts)
        )


def failures(results: Sequence[JobResult], label: str) -> list[ImageError]:
    """What failed, once each: a network that cannot be loaded fails for every image."""
    told = dict.fromkeys(result.error for result in results if result.error is not None)
    return [ImageError(f"{label}: {error}") for error in told]


def folder_name(name: str, facts: ModelInfo, *, kept: bool) -> str:
    """Name a folder after a network; one that is kept so that other weights get another.

    Raises:
        UpscaleError: The network cannot be got.
    """
    label = model_label(facts.name)
    return f"{label}-{model_digest(name)[:8]}" if kept else label
