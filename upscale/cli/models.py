"""The command `upscale models`: list, download, import, inspect and blend networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.checkpoints import CatalogEntry, availability, catalog, imported_names, known_name
from upscale.cli import shared_options as shared
from upscale.cli.completion import networks, one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options
from upscale.errors import ExitCode, OutputError, UpscaleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from upscale.models import Spec

PRESENCE_TEXT = {
    "cached": "ready",
    "bundled": "included",
    "absent": "not downloaded",
}
_LINE_WIDTH = 160
"""Width of the table if the output is not a terminal, so that no line is wrapped."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, json: shared.Json = None, verbose: shared.Verbose = None
) -> Action | None:
    """List the available networks, or manage them."""
    return None if context.invoked_subcommand else _list(context)


@app.command("list")
def list_(
    context: typer.Context, json: shared.Json = None, verbose: shared.Verbose = None
) -> Action:
    """List the available networks."""
    return _list(context)


@app.command()
def info(
    context: typer.Context,
    network: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            autocompletion=one_of(networks),
            help="Network name or checkpoint file.",
        ),
    ],
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:
    """Show details of a network: scale, architecture, source, licence, checksum."""
    return lambda session: _print_info(
        session, network, resolve_options(context, session).report.json
    )


@app.command()
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            autocompletion=one_of(networks),
            help="Networks to download.",
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", metavar="", help="Download all networks.")] = False,
    verbose: shared.Verbose = None,
) -> Action:
    """Download networks and verify their checksums, for use without an internet connection."""
    return lambda session: _pull(session, names or [], all)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint file.")],
    new_name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", show_default=False,
                     help="Name of the network. Default: the name of the file."),
    ] = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Check a checkpoint and copy it to the cache, for use by name."""
    return lambda session: _import(session, file, new_name)


@app.command()
def remove(
    network: Annotated[str, typer.Argument(metavar="NAME", help="Imported network.")],
    verbose: shared.Verbose = None,
) -> Action:
    """Delete an imported network from the cache."""
    return lambda session: _remove(network)


@app.command()
def blend(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="First network.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Second network.")],
    *,
    target: Annotated[Path, output("FILE", "Checkpoint to write (.safetensors).")],
    alpha: Annotated[
        float,
        option("--alpha", min=0, max=1, metavar="0..1", panel=shared.OUTPUT, show_default=True,
               help="Weight of A; B has the weight 1 - alpha."),
    ] = 0.5,
    half: Annotated[
        bool,
        typer.Option("--half", metavar="", rich_help_panel=shared.OUTPUT,
                     help="Store fp16 weights: half the size of fp32."),
    ] = False,
    overwrite: shared.Overwrite = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Write the weighted average of two networks of the same architecture."""

    def action(session: Session) -> int:
        overwrite = resolve_options(context, session).output.overwrite
        return _blend(session, (a, b), alpha, target, half=half, overwrite=overwrite)

    return action


def _list(context: typer.Context) -> Action:
    return lambda session: _print_list(session, resolve_options(context, session).report.json)


def _print_list(session: Session, as_json: bool) -> int:
    if as_json:
        for entry in catalog().values():
            session.out_json(_catalog_facts(entry))
        for name in imported_names():
            session.out_json(_imported_facts(name))
        return ExitCode.DONE
    from rich.console import Console
    from rich.table import Table

    table = Table("network", "scale", "status", "purpose", box=None, pad_edge=False)
    for entry in catalog().values():
        presence = PRESENCE_TEXT[availability(entry)]
        table.add_row(entry.name, f"x{entry.scale}", presence, entry.purpose)
    for name in imported_names():
        facts = _imported_facts(name)
        table.add_row(name, f"x{facts.get('scale', '?')}", "imported", facts["architecture"])
    width = None if session.stdout.isatty() else _LINE_WIDTH
    console = Console(file=session.stdout, width=width, highlight=False, markup=False)
    console.print(table)
    if any(availability(entry) == "absent" for entry in catalog().values()):
        session.say("download a network with: upscale models pull NAME")
    return ExitCode.DONE


def _print_info(session: Session, model: str, as_json: bool) -> int:
    name = known_name(model)
    if name is not None:
        facts = _catalog_facts(catalog()[name])
    elif model in imported_names():
        facts = _imported_facts(model)
    else:
        facts = _file_facts(model)
    if as_json:
        session.out_json(facts)
        return ExitCode.DONE
    width = max(map(len, facts))
    for key, value in facts.items():
        session.out(f"{key:{width}}  {value}")
    return ExitCode.DONE


def _catalog_facts(entry: CatalogEntry) -> dict[str, str]:
    facts = {
        "name": entry.name,
        "scale": str(entry.scale),
        "present": availability(entry),
        "architecture": entry.architecture,
        "purpose": entry.purpose,
        "source": entry.source,
        "licence": entry.licence,
        "sha256": entry.sha256,
    }
    if entry.size is not None:
        facts["bytes"] = str(entry.size)
    if entry.denoise_partner is not None:
        facts["denoise partner"] = entry.denoise_partner
    return facts


def _imported_facts(name: str) -> dict[str, str]:
    from upscale.checkpoints import imported_models

    model = imported_models()[name]
    facts = {"name": name, "present": "cached", "architecture": "unknown", "file": str(model.path)}
    return facts | dict(model.metadata) | {"name": name}


def _file_facts(model: str) -> dict[str, str]:
    from upscale.checkpoints import read_metadata, resolve

    path = resolve(model).path
    spec, state = _canonical(model)
    facts = {"file": str(path), "tensors": str(len(state))}
    if spec is None:
        facts["architecture"] = "unknown; install the extra upscale[community] to use it"
    else:
        facts |= {"scale": str(spec.scale), "architecture": spec.describe()}
    if path.suffix.lower() == ".safetensors":
        facts |= {key: value for key, value in read_metadata(path).items() if key not in facts}
    return facts


def _canonical(model: str) -> tuple[Spec | None, Mapping[str, Tensor]]:
    """Read a network with its keys converted to those of the reference implementation."""
    from upscale.checkpoints import resolve
    from upscale.models import UnknownArchitectureError, detect

    state = resolve(model).state()
    try:
        detected = detect(state)
    except UnknownArchitectureError:
        return None, state
    return detected.spec, detected.state


def _pull(session: Session, names: list[str], everything: bool) -> int:
    if everything == bool(names):
        raise UsageError("models pull: name networks, or use --all")
    entries = [_entry(name) for name in names] or list(catalog().values())
    failed = 0
    for entry in entries:
        try:
            session.out(str(_download(session, entry)))
        except UpscaleError as error:
            session.error(str(error))
            failed += 1
    if failed == len(entries):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _download(session: Session, entry: CatalogEntry) -> Path:
    from upscale.checkpoints import locate
    from upscale.cli.progress_bars import download_progress

    if availability(entry) == "absent":
        session.say(f"downloading {entry.name}")
    with download_progress(session.stderr, entry.name) as progress:
        return locate(entry, progress)


def _entry(name: str) -> CatalogEntry:
    from upscale.checkpoints import similar_names

    known = known_name(name)
    if known is None:
        similar = similar_names(name)
        hint = f"did you mean {', '.join(similar)}? " if similar else ""
        raise UsageError(f"{name}: unknown network; {hint}run: upscale models")
    return catalog()[known]


def _import(session: Session, file: Path, name: str | None) -> int:
    from upscale.checkpoints import import_checkpoint

    path = import_checkpoint(file, name)
    session.out(path.stem)
    session.say(f"copied to {path}; use it with -n {path.stem}")
    return ExitCode.DONE


def _remove(name: str) -> int:
    from upscale.checkpoints import remove_imported

    remove_imported(name)
    return ExitCode.DONE


def _blend(
    session: Session,
    names: tuple[str, str],
    alpha: float,
    target: Path,
    *,
    half: bool,
    overwrite: bool,
) -> int:
    if target.suffix != ".safetensors":
        raise UsageError(f"-o {target}: the file name must end in .safetensors")
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists already; use --overwrite to replace it")
    from upscale.checkpoints import blend, write_safetensors

    (spec, first), (_, second) = _canonical(names[0]), _canonical(names[1])
    metadata = {"name": target.stem, "source": f"{alpha:g} {names[0]} + {1 - alpha:g} {names[1]}"}
    if spec is not None:
        metadata |= {"scale": str(spec.scale), "architecture": spec.describe()}
    state = blend(first, second, alpha)
    if half:
        floats = {key: tensor.half() for key, tensor in state.items() if tensor.is_floating_point()}
        state |= floats
    write_safetensors(state, target, metadata)
    session.out(session.shown_name(str(target)))
    return ExitCode.DONE
