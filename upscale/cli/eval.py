"""The command `upscale eval`: measure image quality, and compare networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from upscale.cli import shared_options as shared
from upscale.cli.arguments import HELP_OPTIONS
from upscale.cli.completion import list_of, metric_names, networks, one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options, switch
from upscale.errors import ExitCode

if TYPE_CHECKING:
    from upscale.jobs.evaluation import LoadedMetrics
    from upscale.options import Options

DEFAULT_CHAINS = "classical,real-esrgan"
DEFAULT_FRAMES = 16
_METRICS, _TEST_SET = "Metrics", "Test set"


class _FilesFirst(TyperGroup):
    """A command group that runs `files` if the first argument is not a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        if args and args[0] not in self.commands and args[0] not in HELP_OPTIONS:
            args = ["files", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(add_completion=False, rich_markup_mode="rich", cls=_FilesFirst)

Metrics = Annotated[
    str | None,
    option("--metrics", metavar="A,B,...", panel=_METRICS, autocompletion=list_of(metric_names),
           help=f"Metrics to compute: {shared.METRICS}. Default: all available metrics."),
]  # fmt: skip
Border = Annotated[
    int,
    option("--border", metavar="PIXELS", min=0, panel=_METRICS, show_default=True,
           help="Ignore this many pixels at each edge. Papers usually use the scale."),
]  # fmt: skip
MetricFiles = Annotated[
    Path | None,
    option("--metric-files", metavar="FOLDER", envvar="UPSCALE_METRIC_FILES", show_envvar=False,
           panel=_METRICS,
           help="Folder with the network weights of LPIPS and DISTS, which are not downloaded."),
]  # fmt: skip
TableFile = Annotated[Path | None, output("TABLE", "Also write the results to this .csv file.")]
Html = Annotated[
    Path | None,
    option("--html", metavar="PAGE", panel=shared.OUTPUT,
           help="Also write an HTML page with crops of the regions that differ most."),
]  # fmt: skip


@app.callback()
def evaluate() -> None:
    """Measure image quality: upscale eval INPUT... --reference ORIGINALS.

    `upscale eval INPUT` is short for `upscale eval files INPUT`. If an input has the name of a
    command, write ./NAME.
    """


@app.command()
def files(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Images, or folders, one for each version."),
    ],
    *,
    reference: Annotated[
        Path | None,
        option("--reference", metavar="FOLDER|FILE", panel=shared.INPUT,
               help="Original image, or folder of originals, which are matched by name (photo.png "
               "also matches photo_x4.png). Without it, only no-reference metrics are computed."),
    ] = None,
    recursive: shared.Recursive = None,
    metrics: Metrics = None,
    border: Border = 0,
    metric_files: MetricFiles = None,
    device: shared.Device = None,
    table: TableFile = None,
    html: Html = None,
    overwrite: shared.Overwrite = None,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Measure images, with or without reference images."""

    def action(session: Session) -> int:
        from upscale.cli.eval_report import Outputs, run_evaluation
        from upscale.jobs.eval_items import find_eval_items

        options = resolve_options(context, session)
        title = f"{', '.join(inputs[:3])}{' and others' if len(inputs) > 3 else ''}"
        outputs = Outputs(table, html, title, options.report.json, options.output.overwrite)
        matches = find_eval_items(inputs, reference, recursive=options.run.recursive)
        loaded = _load_metrics(metrics, reference is not None, border, metric_files, options)
        return run_evaluation(session, matches, loaded, outputs)

    return action


@app.command()
def models(
    context: typer.Context,
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NAME", autocompletion=one_of(networks),
                       help="Networks to compare: names or files."),
    ],
    *,
    on: Annotated[
        list[Path],
        option("--on", metavar="FOLDER|FILE", panel=_TEST_SET,
               help="Ground-truth images: a file or a folder. Can be repeated."),
    ],
    degrade: Annotated[
        str,
        option("--degrade", metavar="A,B,...", panel=_TEST_SET, show_default=True,
               help="Degradations that make the low-resolution images, one test set each: "
               f"{shared.CHAINS}."),
    ] = DEFAULT_CHAINS,
    scale: Annotated[
        int | None,
        option("-s", "--scale", metavar="N", min=1, panel=_TEST_SET,
               help="Downscale by a factor of N. Default: the largest scale of the networks, or "
               "the recipe's scale."),
    ] = None,
    seed: Annotated[
        int | None,
        option("--seed", metavar="N", min=0, panel=_TEST_SET,
               help="Seed of the degradations. Default: 0, or the recipe's seed."),
    ] = None,
    gate: Annotated[
        bool,
        switch("--gate", panel=_TEST_SET,
               help="Fail if a network is worse than bicubic on clean images (chain classical): "
               "in PSNR-Y, in ST-LPIPS, or in legibility of text."),
    ] = False,
    keep: Annotated[
        Path | None,
        option("--keep", metavar="FOLDER", panel=shared.OUTPUT,
               help="Keep all images in this folder. The same command then reuses them."),
    ] = None,
    metrics: Metrics = None,
    border: Border = 0,
    metric_files: MetricFiles = None,
    device: shared.Device = None,
    cluster: shared.Cluster = None,
    workers: shared.Workers = None,
    table: TableFile = None,
    html: Html = None,
    overwrite: shared.Overwrite = None,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Downscale images, upscale them with each network and bicubic, and compare the results.

    The degradation of an image depends only on the seed and its name, so that all networks get the
    same low-resolution images.
    """

    def action(session: Session) -> int:
        from upscale.cli.eval_networks import check_gate, compare_networks, plan_comparison
        from upscale.cli.eval_report import Outputs

        options = resolve_options(context, session)
        shared.check_cluster(options)
        title = f"{', '.join(networks)} and bicubic on {', '.join(map(str, on))}"
        outputs = Outputs(
            table, html, title, options.report.json, options.output.overwrite, kept=keep is not None
        )
        outputs.check([])
        loaded = _load_metrics(metrics, True, border, metric_files, options)
        comparison = plan_comparison(networks, on, degrade, scale=scale, seed=seed, options=options)
        if gate:
            check_gate(comparison, loaded)
        return compare_networks(session, comparison, keep, loaded, outputs, gate=gate)

    return action


@app.command()
def flicker(
    context: typer.Context,
    videos: Annotated[
        list[Path],
        typer.Argument(metavar="VIDEO", help="Videos, or folders of frames, sorted by name."),
    ],
    *,
    source: Annotated[
        Path | None,
        option("--source", metavar="VIDEO", panel=shared.INPUT,
               help="Video before upscaling, from which the motion is taken, the same for all. "
               "Default: each video's own motion."),
    ] = None,
    frames: Annotated[
        int,
        option("--frames", metavar="N", min=2, panel=_METRICS, show_default=True,
               help="Measure at most the first N frames."),
    ] = DEFAULT_FRAMES,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Measure the flicker of upscaled videos: how much fine detail changes along the motion.

    0 is none; 1 means that the detail of each frame has nothing to do with the frame before.
    """

    def action(session: Session) -> int:
        from upscale.cli.eval_flicker import run_flicker

        options = resolve_options(context, session)
        return run_flicker(session, videos, source, frames, as_json=options.report.json)

    return action


@app.command("metrics")
def metrics_(
    context: typer.Context,
    metric_files: MetricFiles = None,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:
    """List the metrics: direction, implementation, availability."""

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        missing = _load_metrics(None, True, 0, metric_files, options).missing
        return _list_metrics(session, missing, as_json=options.report.json)

    return action


def _load_metrics(
    names: str | None, has_reference: bool, border: int, folder: Path | None, options: Options
) -> LoadedMetrics:
    """Load metrics; with `names` None, all that are available."""
    from upscale.jobs.evaluation import load_metrics
    from upscale.metrics.registry import Resources

    def pick() -> str:
        from upscale.engine.device import pick_device

        return str(pick_device(options.engine.devices[0]))

    selected = [] if names is None else [name.strip() for name in names.split(",")]
    resources = Resources(folder, pick)
    return load_metrics(selected, paired=has_reference, border=border, resources=resources)


def _list_metrics(session: Session, missing: Mapping[str, str], *, as_json: bool) -> int:
    from rich.table import Table

    from upscale.cli.console import results_console
    from upscale.cli.eval_report import BETTER
    from upscale.metrics.registry import metrics

    headings = ("metric", "better", "reference", "implementation", "available")
    table = Table(*headings, box=None, pad_edge=False)
    for metric in metrics().values():
        reason = missing.get(metric.name)
        if as_json:
            facts = {"name": metric.name, "better": metric.better, "paired": metric.paired}
            session.out_json(facts | {"implementation": metric.implementation, "missing": reason})
            continue
        reference = "required" if metric.paired else "none"
        table.add_row(
            metric.name, BETTER[metric.better], reference, metric.implementation, reason or "yes"
        )
    if not as_json:
        results_console(session.stdout).print(table)
    return ExitCode.DONE
