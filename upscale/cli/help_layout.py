"""Print help pages in the layout of Typer, without the imports and the markup of its module.

Typer's layout imports parsers of Markdown and highlighters of source code, which take as long as
everything else together, and reads brackets in help texts, as in `upscale[ray]`, as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.align import Align
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.theme import Theme
from typer.core import TyperArgument

_THEME = Theme(
    {
        "option": "bold cyan",
        "switch": "bold green",
        "negative_option": "bold magenta",
        "negative_switch": "bold red",
        "types": "bold yellow",
        "types_sep": "dim",
        "usage": "yellow",
    }
)
_OPTIONS = (
    r"(^|\W)(?P<switch>\-\w+)(?![a-zA-Z0-9])",
    r"(^|\W)(?P<option>\-\-[\w\-]+)(?![a-zA-Z0-9])",
    r"(?P<types>\<[^\>]+\>)",
    r"(?P<usage>Usage: )",
)
_NEGATIVE_OPTIONS = (
    r"(^|\W)(?P<negative_switch>\-\w+)(?![a-zA-Z0-9])",
    r"(^|\W)(?P<negative_option>\-\-[\w\-]+)(?![a-zA-Z0-9])",
)
_TYPES = (
    r"^(?P<types_sep>(\[|<))",
    r"(?P<types_sep>\|)",
    r"(?P<types_sep>(\]|>))(\.\.\.)?$",
)

Panels = dict[str, list[Any]]
"""Parameters or commands by the titles of their panels."""


def print_page(command: Any, context: Any) -> None:  # noqa: ANN401 -- Typer's own copy of Click has no public names
    """Print the help page of a command to standard output.

    Args:
        command: Command or group of Typer.
        context: Its context.
    """
    console = _console()
    console.print(Padding(_highlighted(command.get_usage(context), _OPTIONS), 1), style="bold")
    if command.help:
        console.print(Padding(Align(_description(command.help), pad=False), (0, 1, 1, 1)))
    for title, parameters in _parameter_panels(command, context).items():
        _print_panel(console, title, _parameter_table(parameters, context))
    subcommands = _command_panels(command)
    width = max((len(each.name) for panel in subcommands.values() for each in panel), default=0)
    for title, commands in subcommands.items():
        _print_panel(console, title, _command_table(commands, width))
    if command.epilog:
        console.print(Padding(Align(_highlighted(command.epilog, _OPTIONS), pad=False), 1))


def print_panel(title: str, content: RenderableType) -> None:
    """Print a panel like those of a page to standard output.

    Args:
        title: Title in the upper border.
        content: Text or table in the panel.
    """
    _print_panel(_console(), title, content)


def _console() -> Console:
    return Console(file=sys.stdout, theme=_THEME, markup=False, highlight=False)


def _print_panel(console: Console, title: str, content: RenderableType) -> None:
    console.print(Panel(content, title=title, title_align="left", border_style="dim"))


def _highlighted(text: str | Text, patterns: Sequence[str]) -> Text:
    """Return a text after giving the named groups of patterns the styles of these names."""
    result = Text(text) if isinstance(text, str) else text
    for pattern in patterns:
        result.highlight_regex(pattern)
    return result


def _description(text: str) -> Group:
    first, _, rest = text.partition("\n\n")
    parts = [_highlighted(first, _OPTIONS)]
    if rest:
        parts += [Text(""), _highlighted(Text(rest, style="dim"), _OPTIONS)]
    return Group(*parts)


def _parameter_panels(command: Any, context: Any) -> Panels:  # noqa: ANN401
    """Return the parameters by panel, those without a panel of their own first."""
    arguments: Panels = {"Arguments": []}
    options: Panels = {"Options": []}
    for each in command.get_params(context):
        panels = arguments if isinstance(each, TyperArgument) else options
        title = getattr(each, "rich_help_panel", None) or next(iter(panels))
        if not each.hidden:
            panels.setdefault(title, []).append(each)
    return {title: each for title, each in (arguments | options).items() if each}


def _command_panels(command: Any) -> Panels:  # noqa: ANN401
    """Return the subcommands of a group by panel, those without a panel of their own first."""
    panels: Panels = {"Commands": []}
    for each in getattr(command, "commands", {}).values():
        if not each.hidden:
            panels.setdefault(each.rich_help_panel or "Commands", []).append(each)
    return {title: each for title, each in panels.items() if each}


def _grid() -> Table:
    return Table(show_header=False, expand=True, box=None, pad_edge=False, padding=(0, 1))


def _parameter_table(parameters: Sequence[Any], context: Any) -> Table:  # noqa: ANN401
    table = _grid()
    marked = any(each.required for each in parameters)
    for each in parameters:
        mark = [Text("*", style="red") if each.required else ""] if marked else []
        table.add_row(*mark, *_names(each), _values(each, context), _Explanation(each, context))
    return table


def _names(parameter: Any) -> Iterator[Text]:  # noqa: ANN401
    """Yield the long and short names, and the long and short names that turn it off."""
    if isinstance(parameter, TyperArgument):
        names: list[str] = [parameter.display_name_raw]  # pyright: ignore[reportUnknownMemberType]
        if parameter.metavar is None and parameter.nargs != 1:
            names = [f"{names[0]}..."]
    else:
        names = parameter.opts
    for group, patterns in ((names, _OPTIONS), (parameter.secondary_opts, _NEGATIVE_OPTIONS)):
        for long in (True, False):
            words = [name for name in group if ("--" in name) == long]
            yield _highlighted(",".join(words), patterns)


def _values(parameter: Any, context: Any) -> Text:  # noqa: ANN401
    """Return the placeholder and the range of a value."""
    text = Text(parameter.display_type_rich(ctx=context) or "", style="types", overflow="fold")
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is not None or high is not None:
        before, after = "" if low is None else f"{low}<=", "" if high is None else f"<={high}"
        text.append(f" [x>={low}]" if high is None else f" [{before}x{after}]")
    return _highlighted(text, _TYPES)


class _Explanation:
    """The help text, variable, default value and `[required]`, side by side if there is room.

    It has no width of its own, so that its column takes what the others leave.
    """

    def __init__(self, parameter: Any, context: Any) -> None:  # noqa: ANN401
        self._parts = [_highlighted(parameter.help, _OPTIONS)] if parameter.help else []
        if parameter.envvar and parameter.show_envvar:
            self._parts.append(Text(f"[env var: {parameter.envvar}]", style="dim yellow"))
        if parameter.show_default and (default := _default(parameter, context)):
            self._parts.append(Text(f"[default: {default}]", style="dim"))
        if parameter.required:
            self._parts.append(Text("[required]", style="dim red"))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterable[RenderableType]:
        """Yield the parts."""
        if len(self._parts) == 1:
            return self._parts
        from rich.columns import Columns

        return [Columns(self._parts)]


def _default(parameter: Any, context: Any) -> str:  # noqa: ANN401
    """Return the default value as text; empty if there is none, and for switches that are off."""
    value = parameter.get_default(context, call=False)
    if value is None or (value is False and getattr(parameter, "is_bool_flag", False)):
        return ""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _command_table(commands: Sequence[Any], width: int) -> Table:
    """Return the names of commands, in a column of a width, and the first lines of their help."""
    table = _grid()
    table.add_column(style="bold cyan", no_wrap=True, width=width)
    table.add_column(ratio=10)
    for each in commands:
        summary = (each.short_help or each.help or "").partition("\n\n")[0]
        table.add_row(Text(each.name), _highlighted(summary, _OPTIONS))
    return table
