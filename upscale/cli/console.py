"""Rich's console for texts from files: tables and bars without markup or control characters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import ProgressColumn
from rich.segment import Segment
from rich.text import Text

from upscale.files.printable import printable_text

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.progress import Task

LINE_WIDTH = 1000
"""Width of a table if the output is not a terminal, so that no line is wrapped."""


class EscapingConsole(Console):
    """A console that escapes control characters of all texts, and does not interpret markup.

    Rich removes only some of them. Names of files, tags and metadata pass through here, so that
    they can neither change the terminal nor start a line that looks like a message of the program.
    """

    def __init__(
        self, file: TextIO, *, width: int | None = None, no_color: bool | None = None
    ) -> None:
        """Open a console.

        Args:
            file: Stream to print to.
            width: Columns, None for those of the terminal.
            no_color: Whether to print without colours, None to decide by the environment.
        """
        super().__init__(file=file, width=width, no_color=no_color, markup=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401
        """Return a string as Rich's text; it becomes a single line."""
        return super().render_str(printable_text(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the parts of an output, with what other texts than strings contain escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else _escaped(segment)


class LabelColumn(ProgressColumn):
    """The label of a bar, on one line."""

    def render(self, task: Task) -> Text:
        """Return the label of a task."""
        return Text(printable_text(task.description))


def results_console(stdout: TextIO) -> EscapingConsole:
    """Return the console for tables of results.

    Args:
        stdout: Standard output.
    """
    return EscapingConsole(stdout, width=None if stdout.isatty() else LINE_WIDTH)


def _escaped(segment: Segment) -> Segment:
    text = "\n".join(map(printable_text, segment.text.split("\n")))
    return segment if text == segment.text else Segment(text, segment.style)
