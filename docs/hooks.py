"""Generate pages of the documentation site and rewrite links that leave `docs/`.

MkDocs loads this file (`hooks` in mkdocs.yml). Some pages are files at the root of the repository,
where people and GitHub look for them; the page of the command line is made from the Typer apps.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from upscale.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[1]

INCLUDED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "weights/README.md": "reference/model-cards.md",
}
"""Files of the repository, and the pages that show them."""

COMMAND_LINE = "reference/cli.md"

Command = Any
Parameter = Any
"""Objects that Typer makes, whose classes have no public names."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for source, page in INCLUDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, COMMAND_LINE, content=command_line_page()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Point links to files of the repository at the pages that show them."""
    return rewrite_links(markdown, page.file.src_uri)


def rewrite_links(markdown: str, page: str) -> str:
    """Return the text of a page with each relative link resolved inside the site.

    Links are written for readers of the repository, relative to the file that they stand in. Files
    that are not part of the site become plain text.

    Args:
        markdown: Text of the page.
        page: Path of the page below `docs/`, with forward slashes.

    Raises:
        PluginError: A link names a file that does not exist.
    """
    sources = {shown: source for source, shown in INCLUDED.items()}
    folder = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def rewrite(match: re.Match[str]) -> str:
        label, target, anchor = match["label"], match["target"], match["anchor"] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if path in INCLUDED:
            shown = INCLUDED[path]
        elif path == f"docs/{COMMAND_LINE}":
            shown = COMMAND_LINE
        elif not (ROOT / path).exists():
            raise PluginError(f"{folder}: there is no {path}, which {match[0]} links to")
        elif path.startswith("docs/") and (ROOT / path).is_file():
            shown = path.removeprefix("docs/")
        else:
            return label
        start = posixpath.dirname(page) or "."
        return f"{match['mark']}[{label}]({posixpath.relpath(shown, start)}{anchor})"

    link = re.compile(
        r"(?P<mark>!?)\[(?P<label>[^\]\n]*)\]\((?!\w+:|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
    )
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else link.sub(rewrite, part) for part in parts)


def command_line_page() -> str:
    """Return the reference of all commands and options, from the program's own objects."""
    os.environ.setdefault("COLUMNS", "100")
    import typer

    from upscale.cli.commands import COMMANDS
    from upscale.cli.image import app

    lines = [
        "# Command line",
        "",
        "`upscale --help` and `upscale COMMAND --help` print the same information.",
        "",
    ]
    lines += _command("upscale", typer.main.get_command(app), level=2)
    for name, command in COMMANDS.items():
        lines += _command(f"upscale {name}", typer.main.get_command(command.load()), level=2)
    return "\n".join(lines)


def _command(name: str, command: Command, level: int) -> Iterator[str]:
    """Yield the lines of one command and of its subcommands."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    yield f"{'#' * level} {name}"
    yield ""
    usage = [name, *(["[OPTIONS]"] if options else []), *map(_argument_usage, arguments)]
    usage += ["COMMAND"] if subcommands else []
    yield from ("```text", " ".join(usage), "```", "")
    yield from (_prose(command.help), "")
    if arguments:
        yield from ("| argument | meaning |", "|---|---|")
        for each in arguments:
            yield f"| `{_metavar(each)}` | {_cell(each.help)} |"
        yield ""
    panels: dict[str, list[Any]] = {}
    for option in options:
        if not option.hidden:
            panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(
                option
            )
    for panel, members in panels.items():
        yield from (f"**{panel}**", "", "| option | meaning |", "|---|---|")
        for option in members:
            yield f"| {_spelling(option)} | {_cell(option.help)}{_default(option)} |"
        yield ""
    if command.epilog:
        yield from (_prose(command.epilog), "")
    if examples := EXAMPLES.get(name):
        yield from ("**Examples**", "", "```sh")
        yield from (line for text, purpose in examples for line in (f"# {purpose}", text))
        yield from ("```", "")
    for subname, subcommand in subcommands.items():
        yield from _command(f"{name} {subname}", subcommand, level + 1)


def _argument_usage(argument: Parameter) -> str:
    text = _metavar(argument)
    if argument.nargs == -1 and not text.endswith("..."):
        text += "..."
    return text if argument.required else f"[{text}]"


def _metavar(parameter: Parameter) -> str:
    return (parameter.metavar or parameter.name or "").strip("{}[]").upper()


def _spelling(option: Parameter) -> str:
    """Return all names of an option, short ones first, the longest with the name of its value."""
    value = option.metavar or ("" if option.is_flag else "VALUE")
    *short, longest = sorted(option.opts, key=len)
    names = [*short, f"{longest} {value}".rstrip(), *sorted(option.secondary_opts)]
    return ", ".join(f"`{name}`" for name in names)


def _default(option: Parameter) -> str:
    shown = getattr(option, "show_default", False) and not option.is_flag
    if not shown or option.default in (None, "", ()) or callable(option.default):
        return ""
    return f" Default: `{option.default}`." if "Default" not in (option.help or "") else ""


def _cell(text: str | None) -> str:
    return _prose(text).replace("\n", " ").replace("|", r"\|")


def _prose(text: str | None) -> str:
    r"""Return a help text as Markdown: without Rich markup and Typer's `\b` and `\f` marks."""
    plain = re.sub(r"\[/?[a-z][a-z ]*\]", "", (text or "").replace("\b", "").partition("\f")[0])
    return plain.replace("<", "&lt;").replace("*", r"\*").strip()
