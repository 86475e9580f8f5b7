"""Entry point of `python -m upscale` and of the console script."""

from __future__ import annotations

import signal
import sys
import warnings

from upscale.dependencies import find_import_problem
from upscale.errors import ExitCode


def main() -> None:
    """Run the program and exit; SIGTERM and SIGHUP end it as cleanly as Ctrl-C does."""
    try:
        _raise_interrupt_on("SIGTERM", "SIGHUP")
        # Pillow warns of damaged metadata tags, which are dropped; real damage is an error.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # imported here so that an interrupt during the import is handled, too
        from upscale.cli.app import run
        from upscale.cli.session import Session

        sys.exit(run(sys.argv[1:], Session.of_process()))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except (ImportError, OSError) as error:
        problem = find_import_problem(error)
        if problem is None:
            raise
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(ExitCode.FAILED)


def _raise_interrupt_on(*names: str) -> None:
    """Raise KeyboardInterrupt on these signals, except those that are ignored, as under nohup."""
    for name in names:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    main()
