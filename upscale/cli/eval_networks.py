"""Run several networks on one test set of low-resolution images, for `upscale eval models`."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.cli import image_batch
from upscale.cli.batch_view import BatchView
from upscale.cli.eval_report import Outputs, run_evaluation
from upscale.cli.progress_bars import step_progress
from upscale.cli.session import Session
from upscale.errors import ImageError, UpscaleError, UsageError
from upscale.jobs import (
    Event,
    Finished,
    JobResult,
    ModelInfo,
    find_model_info,
    make_plan,
    run_batch,
)
from upscale.jobs.bicubic import upscale_bicubic
from upscale.jobs.eval_items import EvalItem, Matches, find_eval_items
from upscale.jobs.evaluation import LoadedMetrics
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

if TYPE_CHECKING:
    from upscale_training.degraded_sample import DegradationSampler

BICUBIC = "bicubic"
_RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of networks, checked before any work.

    Attributes:
        networks: Facts about each network, by the name that the user gave.
        images: Files and folders of ground-truth images.
        sampler: Degradations that make the low-resolution images.
        device: Device of the networks.
    """

    networks: Mapping[str, ModelInfo]
    images: tuple[Path, ...]
    sampler: DegradationSampler
    device: str


def plan_comparison(
    names: Sequence[str],
    images: Sequence[Path],
    chain: str,
    *,
    scale: int | None,
    seed: int | None,
    device: str,
) -> Comparison:
    """Look up networks and degradations.

    Args:
        names: Names or files of networks.
        images: Files and folders of ground-truth images.
        chain: Name of a degradation chain, or a recipe file.
        scale: Downscaling factor; None for the recipe's, or the largest of the networks.
        seed: Seed of the degradations; None for the recipe's, or 0.
        device: Device of the networks.

    Raises:
        UsageError: Two networks have the same name, or there is no such chain.
        CheckpointError: A network does not exist.
    """
    from upscale_training.degraded_sample import find_sampler

    networks = {name: find_model_info(name, True) for name in names}
    labels = [facts.name for facts in networks.values()]
    if len({*labels, BICUBIC}) <= len(labels):
        raise UsageError("two networks have the same name: rename one of the files")
    if scale is None and Path(chain).suffix.lower() not in _RECIPE_SUFFIXES:
        scale = int(max(facts.scale for facts in networks.values()))
    sampler = find_sampler(chain, scale=scale, seed=seed)
    return Comparison(networks, tuple(images), sampler, device)


def compare_networks(
    session: Session,
    comparison: Comparison,
    keep: Path | None,
    metrics: LoadedMetrics,
    outputs: Outputs,
) -> int:
    """Make the test set, run each network on it, measure the results, return the exit code.

    Args:
        session: Streams.
        comparison: Networks and images.
        keep: Folder for all images, which are reused; None for a temporary folder.
        metrics: Metrics to compute.
        outputs: Where the results go.
    """
    with _work_folder(keep) as folder:
        return _compare(session, comparison, folder, metrics, outputs)


@contextmanager
def _work_folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="upscale-eval-") as folder:
        yield Path(folder)


def _compare(
    session: Session,
    comparison: Comparison,
    folder: Path,
    metrics: LoadedMetrics,
    outputs: Outputs,
) -> int:
    from upscale_training.test_set import HR_FOLDER, LR_FOLDER

    names, problems = _make_set(session, comparison, folder / "set", as_json=outputs.as_json)
    low, high = folder / "set" / LR_FOLDER, folder / "set" / HR_FOLDER
    versions = {BICUBIC: folder / BICUBIC}
    _run_bicubic(session, low, versions[BICUBIC], comparison.sampler.scale)
    for name, facts in comparison.networks.items():
        try:
            target = folder / _folder_name(name, facts, kept=outputs.kept)
        except UpscaleError as error:
            problems.append(ImageError(f"{facts.name}: {error}"))
            continue
        versions[facts.name] = target
        results = _run_network(session, name, comparison, low, target)
        _print_time(session, facts.name, results, as_json=outputs.as_json)
        problems += _failures(results, facts.name)
    items: list[EvalItem] = []
    for label, version in versions.items():
        if version.is_dir():
            matches = find_eval_items([str(version)], high, recursive=True).items
            # a folder that was kept can contain images of other runs
            items += [replace(item, version=label) for item in matches if item.image in names]
    return run_evaluation(session, Matches(tuple(items), tuple(problems)), metrics, outputs)


def _make_set(
    session: Session, comparison: Comparison, folder: Path, *, as_json: bool
) -> tuple[set[str], list[ImageError]]:
    """Write the pairs of the test set; return the names of the images and the failures."""
    from upscale_training.test_set import find_images, write_set

    sampler = comparison.sampler
    chain = sampler.recipe.chain if isinstance(sampler.recipe.chain, str) else "the recipe's steps"
    images = find_images(comparison.images, folder)
    facts = {"chain": chain, "scale": sampler.scale, "seed": sampler.seed, "images": len(images)}
    if as_json:
        session.out_json({"kind": "set"} | facts)
    else:
        count = "1 image" if len(images) == 1 else f"{len(images)} images"
        session.say(f"{count}, downscaled x{sampler.scale} by {chain}, seed {sampler.seed}")
    problems: list[ImageError] = []
    with step_progress(session, "pairs") as progress:
        for done, (_, result) in enumerate(write_set(folder, images, sampler), 1):
            if isinstance(result, UpscaleError):
                problems.append(ImageError(str(result)))
            progress(done, len(images))
    return set(images), problems


def _run_bicubic(session: Session, low: Path, target: Path, scale: int) -> None:
    """Upscale the low-resolution images with a bicubic filter, except those that are done."""
    sources = sorted(low.rglob("*.png"))
    with step_progress(session, "images", label=BICUBIC) as progress:
        for done, source in enumerate(sources, 1):
            output = target / source.relative_to(low)
            if not output.exists():
                upscale_bicubic(source, output, scale)
            progress(done, len(sources))


def _run_network(
    session: Session, name: str, comparison: Comparison, low: Path, target: Path
) -> list[JobResult]:
    """Upscale the low-resolution images with a network, except those that are done."""
    engine = EngineOptions(model=name, device=comparison.device)
    options = Options(
        size=SizeOptions(scale=comparison.sampler.scale),
        engine=engine,
        output=OutputOptions(output=f"{target}/", format="png", skip_existing=True),
        run=RunOptions(recursive=True),
    )
    facts = comparison.networks[name]
    plan = make_plan([str(low)], options, facts, bytes)
    make = partial(image_batch.make_upscaler, engine, BatchView(session, ReportOptions()))
    done = 0
    with step_progress(session, "images", label=facts.name) as progress:

        def listen(event: Event) -> None:
            nonlocal done
            if isinstance(event, Finished):
                done += 1
                progress(done, len(plan.items))

        devices = {comparison.device: make}
        return run_batch(plan, options, devices, listen, session.stdout.buffer)


def _print_time(
    session: Session, label: str, results: Sequence[JobResult], *, as_json: bool
) -> None:
    """Print how long a network took for the images of this run."""
    done = [result for result in results if result.seconds is not None]
    if not done:
        return
    seconds = sum(result.seconds or 0 for result in done)
    device, precision = done[0].device, done[0].precision
    if as_json:
        session.out_json(
            {
                "kind": "network",
                "version": label,
                "images": len(done),
                "seconds": round(seconds, 3),
                "device": device,
                "precision": precision,
            }
        )
    else:
        session.say(f"{label}: {len(done)} done in {seconds:.1f} s, {device} {precision}")


def _failures(results: Sequence[JobResult], label: str) -> list[ImageError]:
    """Return the distinct errors: a network that cannot be loaded fails for every image."""
    errors = dict.fromkeys(result.error for result in results if result.error is not None)
    return [ImageError(f"{label}: {error}") for error in errors]


def _folder_name(name: str, facts: ModelInfo, *, kept: bool) -> str:
    """Name a folder after a network, and after its weights if the folder is kept.

    Raises:
        UpscaleError: The network is not available.
    """
    label = model_label(facts.name)
    return f"{label}-{model_digest(name)[:8]}" if kept else label
