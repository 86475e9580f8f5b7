"""The command `upscale bench`: measure networks with different settings on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import shared_options as shared
from upscale.cli.completion import networks as known_networks
from upscale.cli.completion import one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, resolve_options
from upscale.errors import ExitCode
from upscale.options import AUTO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upscale.jobs.benchmark import ModelBench, PeakRates, Throughput

_NETWORKS = ["realesrgan-x4plus", "realesr-animevideov3"]
_MIN_GAIN = 1.1
"""Smallest speed-up that is reported; smaller ones are within the noise."""
_MAX_SPREAD = 1.5
"""Slowest round over fastest round above which settings cannot be compared."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def bench(
    context: typer.Context,
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", show_default=False, autocompletion=one_of(known_networks),
            help=f"Networks to measure; {AUTO} for all that it chooses among. "
            f"Default: {' and '.join(_NETWORKS)}.",
        ),
    ] = None,
    *,
    device: shared.Device = None,
    rounds: Annotated[
        int,
        option("--rounds", metavar="N", min=1, panel=shared.NETWORK, show_default=True,
               help="Measure each setting N times."),
    ] = 3,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Measure networks with the default settings and with alternatives, and recommend the fastest.

    The throughput is also shown as a share of the device's peak FLOP/s, which is measured first
    with a large matrix product. Close other programs: they disturb the measurement, which shows as
    a large spread between the slowest and the fastest round.
    """

    def action(session: Session) -> int:
        from upscale.jobs import find_model_info
        from upscale.jobs.benchmark import bench as measure
        from upscale.jobs.benchmark import measure_peak_rates

        options = resolve_options(context, session)
        device, as_json = options.engine.devices[0], options.report.json
        names = _without_auto(networks or _NETWORKS)
        for name in names:  # before the measurements, which take minutes
            find_model_info(name, needs_scale=False)
        peak = measure_peak_rates(device)
        _print_peak(session, peak, as_json=as_json)
        for name in names:
            session.say(f"measuring {name}")
            _print_result(session, measure(name, device, rounds), peak, as_json=as_json)
        return int(ExitCode.DONE)

    return action


def _without_auto(names: Sequence[str]) -> list[str]:
    """Replace `auto` by the networks that it chooses among."""
    from upscale.jobs.auto import auto_networks

    lists = (auto_networks() if name == AUTO else (name,) for name in names)
    return list(dict.fromkeys(name for each in lists for name in each))


def _print_peak(session: Session, peak: PeakRates, *, as_json: bool) -> None:
    if as_json:
        session.out_json({"peak": asdict(peak)})
        return
    products = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in peak.products.items())
    session.out(f"peak: {products} GFLOP/s (matrix product); {peak.copied / 1e9:.1f} GB/s (copy)")


def _print_result(session: Session, result: ModelBench, peak: PeakRates, *, as_json: bool) -> None:
    if as_json:
        session.out_json(
            {
                "model": result.model,
                "scale": result.scale,
                "operations": result.operations,
                "side": result.side,
                "kernels": result.kernels,
                "throughputs": [asdict(throughput) for throughput in result.throughputs],
            }
        )
        return
    session.out("")
    session.out(
        f"{result.model}: x{result.scale}, {result.operations / 1e6:.2f} MFLOP per input pixel, "
        f"measured on {result.side}x{result.side} pixels; convolutions: {result.kernels}"
    )
    session.out("precision  tile   s/Mpx out  spread  GFLOP/s  of peak  speed-up  max. difference")
    for throughput in result.throughputs:
        session.out(_row(throughput, peak))
    session.out(_advice(result))


def _row(throughput: Throughput, peak: PeakRates) -> str:
    setting = throughput.setting
    share = throughput.rate / peak.products[setting.precision]
    return (
        f"{setting.precision:9}  {setting.tile!s:5}  {throughput.seconds:9.3f}"
        f"  {throughput.spread:6.2f}  {throughput.rate / 1e9:7.0f}  {share:7.0%}"
        f"  {throughput.gain:8.2f}  {throughput.furthest:15}"
    )


def _advice(result: ModelBench) -> str:
    fastest = result.fastest
    if max(throughput.spread for throughput in result.throughputs) > _MAX_SPREAD:
        return "the measurements vary too much: close other programs and run again"
    if fastest.gain < _MIN_GAIN:
        return "no setting is faster than the default"
    setting = fastest.setting
    flags = f"--precision {setting.precision}"
    if setting.tile != "auto":
        flags += f" --tile {setting.tile}"
    accuracy = "all values within 1 level of 255"
    if fastest.furthest > 1:
        accuracy = (
            f"{fastest.within:.1%} of values within 1 level of 255, "
            f"largest difference {fastest.furthest}"
        )
    return f"recommended: {flags}, {fastest.gain:.1f} times as fast ({accuracy})"
