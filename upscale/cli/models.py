"""The command `upscale models`: list, download, import, inspect, combine and export networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.checkpoints import (
    FACE_OPTIONS,
    CatalogEntry,
    attribution,
    availability,
    catalog,
    face_entries,
    forbids_commercial_use,
    imported_names,
    known_face_entry,
    known_name,
)
from upscale.checkpoints.fusion import (
    ALPHA,
    BRIGHTEST,
    GAMMA,
    Fusion,
    alpha_of,
    check_networks,
    fusion_file,
    read_fusion,
    write_fusion,
)
from upscale.cli import shared_options as shared
from upscale.cli.completion import networks, one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options
from upscale.errors import ExitCode, UpscaleError, UsageError
from upscale.files.atomic import check_target_free, remove_stale_temporaries
from upscale.files.printable import printable_text
from upscale.options import AUTO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from upscale.models import Spec

PRESENCE_TEXT = {
    "cached": "ready",
    "bundled": "included",
    "absent": "not downloaded",
}
_KINDS = {
    "model": "upscaling",
    "face": "faces",
    "face-detector": "detection of faces",
    "face-parser": "outline of faces",
}
_NO_COMMERCIAL_USE = "not allowed by the licence"
_Network = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        autocompletion=one_of(networks),
        help="Network name or checkpoint file.",
    ),
]
_Half = Annotated[
    bool,
    typer.Option("--half", metavar="", rich_help_panel=shared.OUTPUT,
                 help="Store fp16 weights: half the size of fp32."),
]  # fmt: skip
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
    network: _Network,
    json: shared.Json = None,
    verbose: shared.Verbose = None,
) -> Action:
    """Show details of a network: scale, architecture, source, licence, author, checksum."""
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
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="TEXT", show_default=False,
                     help="Licence of a network whose file names none, for example CC-BY-4.0."),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option("--author", metavar="TEXT", show_default=False,
                     help="Author of a network whose file names none."),
    ] = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Check a checkpoint and copy it to the cache, for use by name."""
    return lambda session: _import(session, file, new_name, licence, author)


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
    half: _Half = False,
    overwrite: shared.Overwrite = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Write the weighted average of two networks of the same architecture."""

    def action(session: Session) -> int:
        overwrite = resolve_options(context, session).output.overwrite
        return _blend(session, (a, b), alpha, target, half=half, overwrite=overwrite)

    return action


@app.command()
def fuse(
    context: typer.Context,
    relativistic: Annotated[
        str,
        typer.Argument(metavar="R", help="Network for all images, trained as a relativistic GAN."),
    ],
    standard: Annotated[
        str,
        typer.Argument(metavar="S", help="Network that is mixed in, trained as a standard GAN."),
    ],
    *,
    target: Annotated[Path, output("FILE", "Fusion to write (.json), for -n.")],
    alpha: Annotated[
        float | None,
        option("--alpha", min=0, max=1, metavar="0..1", panel=shared.OUTPUT,
               help=f"Weight of R for dark images. Default: {ALPHA:g}, or 1 - beta."),
    ] = None,
    beta: Annotated[
        float | None,
        option("--beta", min=0, max=1, metavar="0..1", panel=shared.OUTPUT,
               help="Weight of S for dark images. Default: 1 - alpha."),
    ] = None,
    gamma: Annotated[
        float,
        option("--gamma", min=0, max=BRIGHTEST, metavar="LEVEL", panel=shared.OUTPUT,
               show_default=True,
               help="Images with a median luma below this are dark, in levels of 0..255."),
    ] = GAMMA,
    overwrite: shared.Overwrite = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Combine two networks of one scale: the results are mixed for dark images.

    Bright images are computed by R alone. The weight changes gradually between the frames of
    animations and videos.
    """

    def action(session: Session) -> int:
        overwrite = resolve_options(context, session).output.overwrite
        fusion = Fusion(relativistic, standard, alpha_of(alpha, beta), gamma)
        return _fuse(session, fusion, target, overwrite=overwrite)

    return action


@app.command()
def export(
    context: typer.Context,
    network: _Network,
    *,
    target: Annotated[
        Path, output("FILE", "File to write (.onnx, .pth, .safetensors, or .param for ncnn).")
    ],
    format_name: Annotated[
        str | None,
        option("--to", metavar="FORMAT", panel=shared.OUTPUT,
               help="onnx, ncnn, pth or safetensors. Default: the format of the suffix."),
    ] = None,
    half: _Half = False,
    card: Annotated[
        Path | None,
        option("--card", metavar="FILE", panel=shared.OUTPUT,
               help="Also write a model card in Markdown, from the recipe and the scores in the "
                    "checkpoint."),
    ] = None,
    scores: Annotated[
        Path | None,
        option("--scores", metavar="TABLE", panel=shared.OUTPUT,
               help="Add the mean scores of this .csv file of upscale eval to the model card."),
    ] = None,
    overwrite: shared.Overwrite = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Write a network for other programs: ONNX, ncnn, or PyTorch with the keys of BasicSR."""
    from upscale.cli.models_export import Request, run_export

    def action(session: Session) -> int:
        overwritten = resolve_options(context, session).output.overwrite
        request = Request(network, target, format_name, half, card, scores, overwritten)
        return run_export(session, request)

    return action


def _list(context: typer.Context) -> Action:
    return lambda session: _print_list(session, resolve_options(context, session).report.json)


def _print_list(session: Session, as_json: bool) -> int:
    if as_json:
        for entry in (*catalog().values(), *face_entries()):
            session.out_json(_catalog_facts(entry))
        for name in imported_names():
            session.out_json(_imported_facts(name))
        return ExitCode.DONE
    from rich.table import Table

    from upscale.cli.console import results_console

    table = Table("network", "scale", "status", "purpose", box=None, pad_edge=False)
    auto = _auto_facts()
    table.add_row(AUTO, f"x{auto['scale']}", PRESENCE_TEXT[auto["present"]], auto["purpose"])
    for entry in catalog().values():
        presence = PRESENCE_TEXT[availability(entry)]
        table.add_row(entry.name, f"x{entry.scale}", presence, entry.purpose)
    for name in imported_names():
        facts = _imported_facts(name)
        table.add_row(name, f"x{facts.get('scale', '?')}", "imported", facts["architecture"])
    faces = Table("for faces", "status", "purpose", box=None, pad_edge=False)
    for entry in face_entries():
        faces.add_row(entry.name, PRESENCE_TEXT[availability(entry)], entry.purpose)
    console = results_console(session.stdout)
    console.print(table)
    console.print()
    console.print(faces)
    if any(availability(entry) == "absent" for entry in catalog().values()):
        session.say("download a network with: upscale models pull NAME")
    return ExitCode.DONE


def _print_info(session: Session, model: str, as_json: bool) -> int:
    name, face = known_name(model), known_face_entry(model)
    if model == AUTO:
        facts = _auto_facts()
    elif name is not None:
        facts = _catalog_facts(catalog()[name])
    elif face is not None:
        facts = _catalog_facts(face)
    elif model in imported_names():
        facts = _imported_facts(model)
    elif (fusion := fusion_file(model)) is not None:
        facts = _fusion_facts(fusion)
    else:
        facts = _file_facts(model)
    facts = _with_attribution(facts)
    if as_json:
        session.out_json(facts)
        return ExitCode.DONE
    width = max(map(len, facts))
    for key, value in facts.items():
        session.out(f"{printable_text(key):{width}}  {printable_text(value)}")
    return ExitCode.DONE


def _with_attribution(facts: dict[str, str]) -> dict[str, str]:
    """Return facts with the licence and author under one spelling, and what the licence forbids."""
    facts = facts | attribution(facts)
    if forbids_commercial_use(facts.get("licence", "")):
        facts["commercial use"] = _NO_COMMERCIAL_USE
    return facts


def _auto_facts() -> dict[str, str]:
    """Describe the choice of networks with the keys of a network."""
    from upscale.jobs.auto import AUTO_SCALE, auto_networks
    from upscale.selection.choice import CLEAN, DAMAGED, DRAWING

    presences = [availability(catalog()[name]) for name in auto_networks()]
    return {
        "name": AUTO,
        "scale": str(AUTO_SCALE),
        "present": max(presences, key=("cached", "bundled", "absent").index),
        "architecture": f"chooses {CLEAN} for clean photos, {DAMAGED} for noise, blur and "
        f"compression artefacts, both for what is between them, "
        f"{DRAWING} for drawings, with {CLEAN} for those that are crisp",
        "purpose": "Default: chooses among three networks for each image",
        "networks": ", ".join(auto_networks()),
    }


def _catalog_facts(entry: CatalogEntry) -> dict[str, str]:
    facts = {
        "name": entry.name,
        "kind": _KINDS[entry.kind],
        "scale": str(entry.scale),
        "present": availability(entry),
        "architecture": entry.architecture,
        "purpose": entry.purpose,
        "source": entry.source,
        **entry.attribution,
        "sha256": entry.sha256,
    }
    if entry.size is not None:
        facts["bytes"] = str(entry.size)
    if entry.denoise_partner is not None:
        facts["denoise partner"] = entry.denoise_partner
        facts["denoise default"] = f"{entry.denoise:g}"
    return facts


def _imported_facts(name: str) -> dict[str, str]:
    from upscale.checkpoints import imported_models

    model = imported_models()[name]
    facts = {"name": name, "present": "cached", "architecture": "unknown", "file": str(model.path)}
    return facts | dict(model.metadata) | {"name": name}


def _fusion_facts(path: Path) -> dict[str, str]:
    from upscale.checkpoints import joint_attribution, resolve
    from upscale.jobs import find_model_info

    fusion = read_fusion(path)
    return {
        "file": str(path),
        "scale": f"{find_model_info(str(path), needs_scale=True).scale:g}",
        "architecture": "fusion of two networks",
        "relativistic": fusion.relativistic,
        "standard": fusion.standard,
        "alpha": f"{fusion.alpha:g}",
        "beta": f"{fusion.beta:g}",
        "gamma": f"{fusion.gamma:g}",
        **joint_attribution(resolve(name).attribution for name in fusion.networks),
    }


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
    entries = [entry for name in names for entry in _entries(name)] or list(catalog().values())
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


def _entries(name: str) -> list[CatalogEntry]:
    from upscale.jobs.auto import auto_networks

    return [_entry(each) for each in (auto_networks() if name == AUTO else (name,))]


def _entry(name: str) -> CatalogEntry:
    from upscale.checkpoints import similar_names, withdrawal

    known, face = known_name(name), known_face_entry(name)
    if face is not None:
        return face
    if known is None:
        withdrawn = withdrawal(name)
        if withdrawn is not None:
            raise UsageError(withdrawn)
        similar = similar_names(name)
        hint = f"did you mean {', '.join(similar)}? " if similar else ""
        raise UsageError(f"{name}: unknown network; {hint}run: upscale models")
    return catalog()[known]


def _import(
    session: Session, file: Path, name: str | None, licence: str | None, author: str | None
) -> int:
    from upscale.checkpoints import import_checkpoint, read_metadata

    path = import_checkpoint(file, name, licence=licence, author=author)
    session.out(path.stem)
    face = known_face_entry(path.stem)
    option = "-n" if face is None else FACE_OPTIONS[face.kind]
    session.say(f"copied to {path}; use it with {option} {path.stem}")
    found = face.licence if face else read_metadata(path)["licence"]
    if forbids_commercial_use(found):
        session.say(f"note: commercial use is {_NO_COMMERCIAL_USE}, {printable_text(found)}")
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
    check_target_free(target, overwrite=overwrite)
    from upscale.checkpoints import blend, joint_attribution, resolve, write_safetensors
    from upscale.checkpoints.blending import to_half

    (spec, first), (_, second) = _canonical(names[0]), _canonical(names[1])
    source = f"{alpha:g} {_blend_label(names[0])} + {1 - alpha:g} {_blend_label(names[1])}"
    credits = joint_attribution(resolve(name).attribution for name in names)
    metadata = {"name": target.stem, "source": source, **credits}
    if spec is not None:
        metadata |= {"scale": str(spec.scale), "architecture": spec.describe()}
    state = blend(first, second, alpha)
    if half:
        state = to_half(state)
    remove_stale_temporaries(target.parent)
    write_safetensors(state, target, metadata)
    session.out(session.shown_name(str(target)))
    return ExitCode.DONE


def _fuse(session: Session, fusion: Fusion, target: Path, *, overwrite: bool) -> int:
    if target.suffix != ".json":
        raise UsageError(f"-o {target}: the file name must end in .json")
    check_target_free(target, overwrite=overwrite)
    check_networks(fusion)
    from upscale.jobs import find_model_info

    first, second = (find_model_info(name, needs_scale=True) for name in fusion.networks)
    if first.scale != second.scale:
        raise UsageError(
            f"{first.name} is x{first.scale:g}, but {second.name} is x{second.scale:g}: name two "
            "networks of one scale"
        )
    remove_stale_temporaries(target.parent)
    write_fusion(fusion, target)
    session.out(session.shown_name(str(target)))
    return ExitCode.DONE


def _blend_label(name: str) -> str:
    """Return the name of a network, with its default denoising strength if it is a blend itself."""
    known = known_name(name)
    denoise = 1.0 if known is None else catalog()[known].denoise
    return name if denoise == 1 else f"{name} (denoise {denoise:g})"
