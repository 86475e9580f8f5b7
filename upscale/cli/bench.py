"""`upscale bench`: what this machine does with which settings, and what would be faster."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode
from upscale.options import DEFAULT_MODEL

if TYPE_CHECKING:
    from upscale.jobs.benchmark import ModelBench, PeakRates, Throughput

_MODELS = [DEFAULT_MODEL, "realesr-animevideov3"]
_WORTH_SAYING = 1.1
"""Settings that are faster by less are within the noise."""
_UNSTEADY = 1.5
"""Slowest round over fastest, beyond which ratios of settings mean nothing."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help=f"Default: {' and '.join(_MODELS)}.", show_default=False
        ),
    ] = None,
    *,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often each setting is timed.")
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON object a line.")
    ] = False,
    verbose: Verbose = None,
) -> Action:
    """Time networks with the default setting and with others, in turn.

    Shares are of the device's own ceiling, a large matrix product in the same precision, measured
    first; operations are counted as a direct convolution needs them. Close other programs: the
    spread between the slowest and the fastest round shows how much they disturb.
    """

    def action(session: Session) -> int:
        from upscale.jobs.benchmark import bench as measure
        from upscale.jobs.benchmark import measure_peak_rates

        limit = measure_peak_rates(device)
        _show_ceiling(session, limit, as_json=as_json)
        for name in models or _MODELS:
            session.say(f"timing {name}")
            found = measure(name, device, rounds)
            _show(session, found, limit, as_json=as_json)
        return int(ExitCode.DONE)

    return action


def _show_ceiling(session: Session, limit: PeakRates, *, as_json: bool) -> None:
    if as_json:
        session.out(json.dumps({"ceiling": asdict(limit)}))
        return
    products = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in limit.products.items())
    session.out(
        f"ceiling: matrix products {products} GFLOP/s; copies {limit.copied / 1e9:.1f} GB/s"
    )


def _show(session: Session, found: ModelBench, limit: PeakRates, *, as_json: bool) -> None:
    if as_json:
        fields = asdict(found)
        session.out(json.dumps(fields | {"paces": fields.pop("throughputs")}))
        return
    session.out("")
    session.out(
        f"{found.model}: x{found.scale}, {found.operations / 1e6:.2f} MFLOP for a pixel of input,"
        f" timed on {found.side}x{found.side}; convolutions: {found.kernels}"
    )
    session.out(
        "precision  tile   s/Mpx out  spread  GFLOP/s  of ceiling  times default  most levels off"
    )
    for pace in found.throughputs:
        session.out(_row(pace, limit))
    session.out(_advice(found))


def _row(pace: Throughput, limit: PeakRates) -> str:
    setting = pace.setting
    share = pace.rate / limit.products[setting.precision]
    return (
        f"{setting.precision:9}  {setting.tile!s:5}  {pace.seconds:9.3f}  {pace.spread:6.2f}"
        f"  {pace.rate / 1e9:7.0f}  {share:10.0%}  {pace.gain:13.2f}  {pace.furthest:15}"
    )


def _advice(found: ModelBench) -> str:
    fastest = found.fastest
    if max(pace.spread for pace in found.throughputs) > _UNSTEADY:
        return "too unsteady to tell what is faster: close other programs, and try again"
    if fastest.gain < _WORTH_SAYING:
        return "nothing here is faster than the default by more than noise"
    setting = fastest.setting
    flags = f"--precision {setting.precision}"
    if setting.tile != "auto":
        flags += f" --tile {setting.tile}"
    exact = "the same image within a level"
    if fastest.furthest > 1:
        exact = f"{fastest.within:.1%} of values within a level, at most {fastest.furthest} off"
    return f"faster: {flags}, {fastest.gain:.1f} times ({exact})"
