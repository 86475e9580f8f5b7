"""`upscale models`: the networks that are known, what is present, and how to get the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.checkpoints import CatalogEntry, availability, catalog, imported_names, known_name
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode, OutputError, UpscaleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from upscale.models import RRDBSpec, SRVGGSpec

PRESENCE_TEXT = {
    "cached": "ready",
    "bundled": "included",
    "absent": "to be fetched",
}
_LINE_WIDTH = 160
"""Columns of the table where the output is no terminal, so that no line is broken."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

Json = Annotated[bool, typer.Option("--json", metavar="", envvar="UPSCALE_JSON", show_envvar=False,
                                    help="Print one JSON object a network.")]  # fmt: skip


@app.callback(invoke_without_command=True)
def models(context: typer.Context, json: Json = False, verbose: Verbose = None) -> Action | None:
    """List the networks that -n can name, or look after them."""
    return None if context.invoked_subcommand else _list(json)


@app.command("list")
def list_(json: Json = False, verbose: Verbose = None) -> Action:
    """List the networks and what is present."""
    return _list(json)


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A network or a file.")],
    json: Json = False,
    verbose: Verbose = None,
) -> Action:
    """Show everything that is known of a network or a file."""
    return lambda session: _print_info(session, model, json)


@app.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Networks to fetch.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", metavar="", help="Fetch every one.")] = False,
    verbose: Verbose = None,
) -> Action:
    """Fetch and verify networks, so that they work offline from then on."""
    return lambda session: _pull(session, names or [], all)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Default: after the file.")
    ] = None,
    verbose: Verbose = None,
) -> Action:
    """Keep a verified copy of a checkpoint under a name of its own."""
    return lambda session: _import(session, file, name)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An imported network.")],
    verbose: Verbose = None,
) -> Action:
    """Forget an imported network."""
    return lambda session: _remove(name)


@app.command()
def blend(
    a: Annotated[str, typer.Argument(metavar="A", help="The network that 1 gives.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The network that 0 gives.")],
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="C", help="A .safetensors file.")
    ],
    alpha: Annotated[
        float, typer.Option("--alpha", min=0, max=1, metavar="0..1", help="Weight of A.")
    ] = 0.5,
    half: Annotated[
        bool, typer.Option("--half", metavar="", help="Write fp16, half as large as fp32.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace the file if it exists.")
    ] = False,
    verbose: Verbose = None,
) -> Action:
    """Write the weighted mean of two networks of one shape."""
    return lambda session: _blend(session, (a, b), alpha, output, half=half, overwrite=overwrite)


def _list(as_json: bool) -> Action:
    return lambda session: _print_list(session, as_json)


def _print_list(session: Session, as_json: bool) -> int:
    if as_json:
        for entry in catalog().values():
            session.out(json.dumps(_facts(entry)))
        for name in imported_names():
            session.out(json.dumps(_imported_facts(name)))
        return ExitCode.DONE
    from rich.console import Console
    from rich.table import Table

    table = Table("network", "scale", "present", "for", box=None, pad_edge=False)
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
        session.say("fetch what is not present with: upscale models pull NAME")
    return ExitCode.DONE


def _print_info(session: Session, model: str, as_json: bool) -> int:
    name = known_name(model)
    if name is not None:
        facts = _facts(catalog()[name])
    elif model in imported_names():
        facts = _imported_facts(model)
    else:
        facts = _file_facts(model)
    if as_json:
        session.out(json.dumps(facts))
        return ExitCode.DONE
    width = max(map(len, facts))
    for key, value in facts.items():
        session.out(f"{key:{width}}  {value}")
    return ExitCode.DONE


def _facts(entry: CatalogEntry) -> dict[str, str]:
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

    found = imported_models()[name]
    facts = {"name": name, "present": "cached", "architecture": "unknown", "file": str(found.path)}
    return facts | dict(found.metadata) | {"name": name}


def _file_facts(model: str) -> dict[str, str]:
    from upscale.checkpoints import read_metadata, resolve

    path = resolve(model).path
    spec, state = _canonical(model)
    facts = {"file": str(path), "tensors": str(len(state))}
    if spec is None:
        facts["architecture"] = "another: needs upscale's community extra"
    else:
        facts |= {"scale": str(spec.scale), "architecture": spec.describe()}
    if path.suffix.lower() == ".safetensors":
        facts |= {key: value for key, value in read_metadata(path).items() if key not in facts}
    return facts


def _canonical(model: str) -> tuple[RRDBSpec | SRVGGSpec | None, Mapping[str, Tensor]]:
    """Read a network under the keys that all its dialects have in common."""
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
        raise UsageError("models pull: give names, or --all")
    from upscale.checkpoints import locate

    wanted = [_entry(name) for name in names] or list(catalog().values())
    failed = 0
    for entry in wanted:
        try:
            if availability(entry) == "absent":
                session.say(f"fetching {entry.name}")
            from upscale.cli.progress_bars import fetching

            with fetching(session.stderr, entry.name) as progress:
                path = locate(entry, progress)
        except UpscaleError as error:
            session.error(str(error))
            failed += 1
        else:
            session.out(str(path))
    if failed == len(wanted):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _entry(name: str) -> CatalogEntry:
    known = known_name(name)
    if known is None:
        raise UsageError(f"{name}: no network of this name can be fetched; see: upscale models")
    return catalog()[known]


def _import(session: Session, file: Path, name: str | None) -> int:
    from upscale.checkpoints import import_checkpoint

    path = import_checkpoint(file, name)
    session.out(path.stem)
    session.say(f"use it with -n {path.stem}; it is kept in {path}")
    return ExitCode.DONE


def _remove(name: str) -> int:
    from upscale.checkpoints import remove_imported

    remove_imported(name)
    return ExitCode.DONE


def _blend(
    session: Session,
    names: tuple[str, str],
    alpha: float,
    output: Path,
    *,
    half: bool,
    overwrite: bool,
) -> int:
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output}: a blend is written as .safetensors")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already: give --overwrite")
    from upscale.checkpoints import blend, write_safetensors

    (spec, one), (_, other) = _canonical(names[0]), _canonical(names[1])
    metadata = {"name": output.stem, "source": f"{alpha:g} {names[0]} + {1 - alpha:g} {names[1]}"}
    if spec is not None:
        metadata |= {"scale": str(spec.scale), "architecture": spec.describe()}
    state = blend(one, other, alpha)
    if half:
        floats = {key: tensor.half() for key, tensor in state.items() if tensor.is_floating_point()}
        state |= floats
    write_safetensors(state, output, metadata)
    session.out(str(output))
    return ExitCode.DONE
