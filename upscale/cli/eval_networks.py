"""Run several networks on test sets of low-resolution images, for `upscale eval models`."""

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
from upscale.cli.eval_report import Outputs, measure_all, report
from upscale.cli.progress_bars import step_progress
from upscale.cli.session import Session
from upscale.errors import ExitCode, ImageError, UpscaleError, UsageError
from upscale.jobs import (
    Event,
    Finished,
    JobResult,
    ModelInfo,
    find_model_info,
    make_plan,
)
from upscale.jobs.bicubic import upscale_bicubic
from upscale.jobs.eval_items import EvalItem, Matches, find_eval_items
from upscale.jobs.evaluation import LoadedMetrics, Scores
from upscale.jobs.model_info import model_digest
from upscale.jobs.naming import model_label
from upscale.jobs.quality_gate import GATE_CHAIN, REQUIRED, GateResult, gate_results
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
        samplers: Degradations that make the low-resolution images, by the name of their chain.
        options: Options of the command: the device, or the cluster.
    """

    networks: Mapping[str, ModelInfo]
    images: tuple[Path, ...]
    samplers: Mapping[str, DegradationSampler]
    options: Options


def plan_comparison(
    names: Sequence[str],
    images: Sequence[Path],
    chains: str,
    *,
    scale: int | None,
    seed: int | None,
    options: Options,
) -> Comparison:
    """Look up networks and degradations.

    Args:
        names: Names or files of networks.
        images: Files and folders of ground-truth images.
        chains: Names of degradation chains and recipe files, separated by commas.
        scale: Downscaling factor; None for the recipe's, or the largest of the networks.
        seed: Seed of the degradations; None for the recipe's, or 0.
        options: Options of the command: the device, or the cluster.

    Raises:
        UsageError: Two networks or chains have the same name, or there is no such chain.
        CheckpointError: A network does not exist.
    """
    networks = {name: find_model_info(name, True) for name in names}
    labels = [facts.name for facts in networks.values()]
    if len({*labels, BICUBIC}) <= len(labels):
        raise UsageError("two networks have the same name: rename one of the files")
    largest = int(max(facts.scale for facts in networks.values()))
    samplers: dict[str, DegradationSampler] = {}
    for chain in _chain_names(chains):
        label, sampler = _find_chain(chain, scale, largest, seed)
        if label in samplers:
            raise UsageError(f"--degrade: {label} is given twice")
        samplers[label] = sampler
    return Comparison(networks, tuple(images), samplers, options)


def _chain_names(chains: str) -> list[str]:
    # The path of a recipe may contain a comma.
    if Path(chains).is_file():
        return [chains]
    return [chain.strip() for chain in chains.split(",")]


def _find_chain(
    chain: str, scale: int | None, largest: int, seed: int | None
) -> tuple[str, DegradationSampler]:
    """Return the name of a chain for tables and its degradations."""
    from upscale_training.degraded_sample import find_sampler

    is_recipe = Path(chain).suffix.lower() in _RECIPE_SUFFIXES
    if scale is None and not is_recipe:
        scale = largest
    label = model_label(Path(chain).stem) if is_recipe else chain
    return label, find_sampler(chain, scale=scale, seed=seed)


def compare_networks(
    session: Session,
    comparison: Comparison,
    keep: Path | None,
    metrics: LoadedMetrics,
    outputs: Outputs,
    *,
    gate: bool = False,
) -> int:
    """Make the test sets, run each network on them, measure the results, return the exit code.

    Args:
        session: Streams.
        comparison: Networks and images.
        keep: Folder for all images, which are reused; None for a temporary folder.
        metrics: Metrics to compute.
        outputs: Where the results go.
        gate: Fail if a network harms clean images.
    """
    with _work_folder(keep) as folder:
        items: list[EvalItem] = []
        problems: list[ImageError] = []
        for chain in comparison.samplers:
            matches = _run_chain(session, comparison, chain, folder / chain, outputs)
            items += matches.items
            problems += matches.problems
        # A network that cannot be loaded fails for all chains.
        distinct = {str(problem): problem for problem in problems}
        matches = Matches(tuple(items), tuple(distinct.values()))
        measurements = measure_all(session, matches, metrics, outputs)
        code = report(session, matches, measurements, metrics, outputs)
    if gate and not _passes_gate(session, comparison, measurements, as_json=outputs.as_json):
        return ExitCode.FAILED
    return code


def check_gate(comparison: Comparison, metrics: LoadedMetrics) -> None:
    """Check that the gate can measure the networks of a comparison.

    Raises:
        UsageError: The clean chain or a metric is missing.
    """
    if GATE_CHAIN not in comparison.samplers:
        raise UsageError(f"--gate measures clean images: add {GATE_CHAIN} to --degrade")
    for name in REQUIRED:
        if name in metrics.missing:
            raise UsageError(f"--gate: {name} {metrics.missing[name]}")
        if name not in metrics.measures:
            raise UsageError(f"--gate needs {name}: add it to --metrics")


def _passes_gate(
    session: Session, comparison: Comparison, measurements: Sequence[Scores], *, as_json: bool
) -> bool:
    """Print the results of the gate and return whether all networks pass."""
    versions = [facts.name for facts in comparison.networks.values()]
    scale = comparison.samplers[GATE_CHAIN].scale
    results = gate_results(measurements, versions, baseline=BICUBIC, scale=scale)
    for result in results:
        if as_json:
            session.out_json(_gate_record(result, scale))
        for check in result.failures:
            session.error(f"{result.version}: fails the gate ({GATE_CHAIN} x{scale}): {check}")
        if result.passed:
            session.say(f"{result.version}: passes the gate ({GATE_CHAIN} x{scale})")
    return all(result.passed for result in results)


def _gate_record(result: GateResult, scale: int) -> dict[str, object]:
    checks = [
        {
            "metric": check.metric,
            "value": check.value,
            "limit": check.limit,
            "images": check.images,
            "passed": check.passed,
        }
        for check in result.checks
    ]
    return {
        "kind": "gate",
        "version": result.version,
        "chain": GATE_CHAIN,
        "scale": scale,
        "passed": result.passed,
        "checks": checks,
    }


@contextmanager
def _work_folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="upscale-eval-") as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class _TestSet:
    """Folder of low-resolution images, and how much smaller they are than the originals."""

    low: Path
    scale: int


def _run_chain(
    session: Session, comparison: Comparison, chain: str, folder: Path, outputs: Outputs
) -> Matches:
    """Make the test set of a chain, run bicubic and each network on it, and return the outputs."""
    from upscale_training.test_set import HR_FOLDER, LR_FOLDER

    names, problems = _make_set(session, comparison, chain, folder / "set", outputs.as_json)
    low, high = folder / "set" / LR_FOLDER, folder / "set" / HR_FOLDER
    test_set = _TestSet(low, comparison.samplers[chain].scale)
    versions = {BICUBIC: folder / BICUBIC}
    _run_bicubic(session, test_set, versions[BICUBIC])
    for name, facts in comparison.networks.items():
        try:
            target = folder / _folder_name(name, facts, kept=outputs.kept)
        except UpscaleError as error:
            problems.append(ImageError(f"{facts.name}: {error}"))
            continue
        versions[facts.name] = target
        results = _run_network(session, name, comparison, test_set, target)
        _print_time(session, facts.name, chain, results, as_json=outputs.as_json)
        problems += _failures(results, facts.name)
    items: list[EvalItem] = []
    for label, version in versions.items():
        if version.is_dir():
            matches = find_eval_items([str(version)], high, recursive=True).items
            # a folder that was kept can contain images of other runs
            known = [item for item in matches if item.image in names]
            items += [replace(item, version=label, chain=chain) for item in known]
    return Matches(tuple(items), tuple(problems))


def _make_set(
    session: Session, comparison: Comparison, label: str, folder: Path, as_json: bool
) -> tuple[set[str], list[ImageError]]:
    """Write the pairs of the test set; return the names of the images and the failures."""
    from upscale_training.test_set import find_images, write_set

    sampler = comparison.samplers[label]
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


def _run_bicubic(session: Session, test_set: _TestSet, target: Path) -> None:
    """Upscale the low-resolution images with a bicubic filter, except those that are done."""
    sources = sorted(test_set.low.rglob("*.png"))
    with step_progress(session, "images", label=BICUBIC) as progress:
        for done, source in enumerate(sources, 1):
            output = target / source.relative_to(test_set.low)
            if not output.exists():
                upscale_bicubic(source, output, test_set.scale)
            progress(done, len(sources))


def _run_network(
    session: Session, name: str, comparison: Comparison, test_set: _TestSet, target: Path
) -> list[JobResult]:
    """Upscale the low-resolution images with a network, except those that are done."""
    device = comparison.options.engine.devices[0]
    engine, run = EngineOptions(model=name, device=device), comparison.options.run
    options = Options(
        size=SizeOptions(scale=test_set.scale),
        engine=engine,
        output=OutputOptions(output=f"{target}/", format="png", skip_existing=True),
        run=RunOptions(recursive=True, cluster=run.cluster, workers=run.workers),
    )
    facts = comparison.networks[name]
    plan = make_plan([str(test_set.low)], options, facts, bytes)
    make = partial(image_batch.make_upscaler, engine, BatchView(session, ReportOptions()))
    done = 0
    with step_progress(session, "images", label=facts.name) as progress:

        def listen(event: Event) -> None:
            nonlocal done
            if isinstance(event, Finished):
                done += 1
                progress(done, len(plan.items))

        return image_batch.compute(plan, options, {device: make}, listen, session.stdout.buffer)


def _print_time(
    session: Session, label: str, chain: str, results: Sequence[JobResult], *, as_json: bool
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
                "chain": chain,
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
