"""`upscale eval`: how good images are, and which network makes the best ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode, ImageError, UpscaleError, UsageError

if TYPE_CHECKING:
    from upscale_training.degraded_sample import DegradationSampler

    from upscale.cli.eval_report import Outputs
    from upscale.jobs import ModelInfo
    from upscale.jobs.eval_items import EvalItem
    from upscale.jobs.evaluation import LoadedMetrics

DEFAULT_CHAIN = "classical"
_RECIPES = (".yaml", ".yml")
_MEASURED, _SHOWN = "What is measured", "What is shown"


class _FilesFirst(TyperGroup):
    """A group whose first argument, where it is no command, is an input of `files`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["files", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(add_completion=False, rich_markup_mode="rich", cls=_FilesFirst)

Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="A,B,C", rich_help_panel=_MEASURED, show_default=False,
                 help="As psnr-y,niqe; see upscale eval metrics. Default: all that there are."),
]  # fmt: skip
Border = Annotated[
    int,
    typer.Option("--border", metavar="N", min=0, rich_help_panel=_MEASURED,
                 help="Pixels on every side that do not count; papers take the scale."),
]  # fmt: skip
MetricFiles = Annotated[
    Path | None,
    typer.Option("--metric-files", metavar="FOLDER", envvar="UPSCALE_METRIC_FILES",
                 show_envvar=False, rich_help_panel=_MEASURED, show_default=False,
                 help="Where the networks of LPIPS and DISTS are; they are not downloaded."),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", envvar="UPSCALE_DEVICE", show_envvar=False,
                 rich_help_panel=_MEASURED, help="For networks: auto, cpu, cuda, cuda:N or mps."),
]  # fmt: skip
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="TABLE", rich_help_panel=_SHOWN, show_default=False,
                 help="A table as .csv, too."),
]  # fmt: skip
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="PAGE", rich_help_panel=_SHOWN, show_default=False,
                 help="A page, too, with crops side by side where images differ most."),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", metavar="", rich_help_panel=_SHOWN,
                 help="Replace the table and the page."),
]  # fmt: skip
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", envvar="UPSCALE_JSON", show_envvar=False,
                 rich_help_panel=_SHOWN, help="Print one JSON object an image."),
]  # fmt: skip


@app.callback()
def evaluate() -> None:
    """Measure how good images are: upscale eval INPUT... --reference ORIGINALS.

    Files and folders are measured by `files`, which need not be named. A folder that is called
    like a command is reached with ./
    """


@app.command()
def files(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Images, or folders, each a version of its own."),
    ],
    *,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="DIR|FILE", rich_help_panel=_MEASURED,
                     show_default=False,
                     help="The originals, found by name (photo.png for photo_x4.png, too)."),
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option("-r", "--recursive", metavar="", rich_help_panel=_MEASURED,
                     help="Look into folders of folders."),
    ] = False,
    metrics: Metrics = None,
    border: Border = 0,
    metric_files: MetricFiles = None,
    device: Device = "auto",
    output: Output = None,
    html: Html = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = None,
) -> Action:  # fmt: skip
    """Measure files and folders, beside their originals or alone."""

    def action(session: Session) -> int:
        from upscale.cli.eval_report import Outputs, show_evaluation
        from upscale.jobs.eval_items import find_eval_items

        title = f"{', '.join(inputs[:3])}{' and others' if len(inputs) > 3 else ''}"
        outputs = Outputs(as_json, output, html, title, overwrite)
        found = find_eval_items(inputs, reference, recursive=recursive)
        paired = reference is not None
        ready = _prepare(metrics, paired, border=border, folder=metric_files, device=device)
        return show_evaluation(session, found, ready, outputs)

    return action


@app.command()
def models(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Networks: names, or files.")
    ],
    *,
    on: Annotated[
        list[Path],
        typer.Option("--on", metavar="DIR|FILE", rich_help_panel=_MEASURED, show_default=False,
                     help="Good images; may be given several times."),
    ],
    degrade: Annotated[
        str,
        typer.Option("--degrade", metavar="CHAIN|RECIPE", rich_help_panel=_MEASURED,
                     help="How they become small: real-esrgan, classical (bicubic), generic, or a "
                     "recipe's .yaml."),
    ] = DEFAULT_CHAIN,
    scale: Annotated[
        int | None,
        typer.Option("-s", "--scale", metavar="N", min=1, rich_help_panel=_MEASURED,
                     show_default=False,
                     help="How much smaller; default: the networks' largest, or the recipe's."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, rich_help_panel=_MEASURED, show_default=False,
                     help="Of all that is drawn; default: 0, or the recipe's."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="FOLDER", rich_help_panel=_SHOWN, show_default=False,
                     help="Keep all images there; the same command then goes on with them."),
    ] = None,
    metrics: Metrics = None,
    border: Border = 0,
    metric_files: MetricFiles = None,
    device: Device = "auto",
    output: Output = None,
    html: Html = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    verbose: Verbose = None,
) -> Action:  # fmt: skip
    """Make good images small, upscale them with networks and bicubic, and compare.

    What is drawn for an image depends on the seed and its name, so that every network gets the
    same small images.
    """

    def action(session: Session) -> int:
        from upscale.cli.eval_report import Outputs

        title = f"{', '.join(names)} and bicubic on {', '.join(map(str, on))}"
        outputs = Outputs(as_json, output, html, title, overwrite, kept=keep is not None)
        outputs.check([])
        ready = _prepare(metrics, True, border=border, folder=metric_files, device=device)
        trial = _plan_trial(names, on, degrade, scale=scale, seed=seed, device=_first(device))
        with _folder(keep) as folder:
            return _compare(session, trial, folder, ready, outputs)

    return action


@app.command("metrics")
def metrics_(
    metric_files: MetricFiles = None, as_json: Json = False, verbose: Verbose = None
) -> Action:
    """List the metrics: what is better, which implementation it is, what is missing."""
    return lambda session: _list_metrics(session, metric_files, as_json=as_json)


def _first(devices: str) -> str:
    """One device; UPSCALE_DEVICE may name several, which batches share."""
    return devices.partition(",")[0]


# --- metrics ---------------------------------------------------------------------------------


def _prepare(
    names: str | None, paired: bool, *, border: int = 0, folder: Path | None, device: str
) -> LoadedMetrics:
    from upscale.jobs.evaluation import load_metrics
    from upscale.metrics.registry import Resources

    def pick() -> str:
        from upscale.engine.device import pick_device

        return str(pick_device(_first(device)))

    wanted = [] if names is None else [name.strip() for name in names.split(",")]
    return load_metrics(wanted, paired=paired, border=border, resources=Resources(folder, pick))


def _list_metrics(session: Session, folder: Path | None, *, as_json: bool) -> int:
    from rich.console import Console
    from rich.table import Table

    from upscale.metrics.registry import metrics

    missing = _prepare(None, True, folder=folder, device="cpu").missing
    table = Table("metric", "better", "of", "implementation", "here", box=None, pad_edge=False)
    for metric in metrics().values():
        reason = missing.get(metric.name)
        if as_json:
            facts = {"name": metric.name, "better": metric.better, "paired": metric.paired}
            session.out(
                json.dumps(facts | {"implementation": metric.implementation, "missing": reason})
            )
            continue
        what = "a pair" if metric.paired else "one"
        table.add_row(metric.name, metric.better, what, metric.implementation, reason or "yes")
    if not as_json:
        width = None if session.stdout.isatty() else 1000
        console = Console(file=session.stdout, width=width, highlight=False, markup=False)
        console.print(table)
    return ExitCode.DONE


# --- networks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is compared, found out before any work.

    Attributes:
        models: Networks as they were named, and what is known of them.
        images: Good ones.
        draws: What makes them small.
        device: For the networks.
    """

    models: tuple[tuple[str, ModelInfo], ...]
    images: tuple[Path, ...]
    draws: DegradationSampler
    device: str


def _plan_trial(
    names: Sequence[str],
    images: Sequence[Path],
    chain: str,
    *,
    scale: int | None,
    seed: int | None,
    device: str,
) -> _Trial:
    from upscale_training.degraded_sample import find_sampler

    from upscale.jobs import find_model_info

    found = tuple((name, find_model_info(name, True)) for name in dict.fromkeys(names))
    labels = [facts.name for _, facts in found]
    if len({*labels, "bicubic"}) <= len(labels):
        raise UsageError("two of the networks have one name: rename a file")
    if scale is None and Path(chain).suffix.lower() not in _RECIPES:
        scale = int(max(facts.scale for _, facts in found))
    return _Trial(found, tuple(images), find_sampler(chain, scale=scale, seed=seed), device)


@contextmanager
def _folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="upscale-eval-") as folder:
        yield Path(folder)


def _compare(
    session: Session, trial: _Trial, folder: Path, ready: LoadedMetrics, outputs: Outputs
) -> int:
    from upscale_training.test_set import BAD, GOOD

    from upscale.cli.eval_networks import (
        BICUBIC,
        failures,
        folder_name,
        tell_pace,
        upscale,
        upscale_bicubic_set,
    )
    from upscale.cli.eval_report import show_evaluation
    from upscale.jobs.eval_items import Matches, find_eval_items

    scale, device = trial.draws.scale, trial.device
    images, problems = _make_set(session, trial, folder / "set", as_json=outputs.as_json)
    low, high = folder / "set" / BAD, folder / "set" / GOOD
    versions = {BICUBIC: folder / BICUBIC}
    upscale_bicubic_set(session, low, versions[BICUBIC], scale)
    for name, facts in trial.models:
        try:
            target = folder / folder_name(name, facts, kept=outputs.kept)
        except UpscaleError as error:
            problems.append(ImageError(f"{facts.name}: {error}"))
            continue
        versions[facts.name] = target
        results = upscale(session, name, facts, low, target, scale=scale, device=device)
        tell_pace(session, facts.name, results, as_json=outputs.as_json)
        problems += failures(results, facts.name)
    subjects: list[EvalItem] = []
    for label, made in versions.items():
        if made.is_dir():
            found = find_eval_items([str(made)], high, recursive=True).items
            # a folder that was kept can hold images of other runs
            subjects += [replace(one, version=label) for one in found if one.image in images]
    return show_evaluation(session, Matches(tuple(subjects), tuple(problems)), ready, outputs)


def _make_set(
    session: Session, trial: _Trial, folder: Path, *, as_json: bool
) -> tuple[set[str], list[ImageError]]:
    """Write the good images and the small ones; return their names, and what has failed."""
    from upscale_training.test_set import find_images, write_set

    from upscale.cli.eval_report import progress

    draws = trial.draws
    chain = draws.recipe.chain if isinstance(draws.recipe.chain, str) else "the recipe's steps"
    images = find_images(trial.images, folder)
    facts = {"chain": chain, "scale": draws.scale, "seed": draws.seed, "pictures": len(images)}
    if as_json:
        session.out(json.dumps({"kind": "set"} | facts))
    else:
        count = "1 image" if len(images) == 1 else f"{len(images)} images"
        session.say(f"{count}, made {draws.scale} times smaller by {chain}, seed {draws.seed}")
    problems: list[ImageError] = []
    with progress(session, "making small", len(images)) as advance:
        for _, made in write_set(folder, images, draws):
            if isinstance(made, UpscaleError):
                problems.append(ImageError(str(made)))
            advance()
    return set(images), problems
