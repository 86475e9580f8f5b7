"""Entry point of `python -m upscale` and of the console script."""

from __future__ import annotations

import os
import sys
import warnings

from upscale.dependencies import find_import_problem
from upscale.errors import ExitCode
from upscale.garbage import uncollected
from upscale.interrupts import install


def main() -> None:
    """Run the program and exit; SIGTERM and SIGHUP end it as cleanly as Ctrl-C does.

    A second signal ends it at once.
    """
    try:
        install()
        _reserve_standard_streams()
        # Pillow warns of damaged metadata tags, which are dropped; real damage is an error.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # imported here so that an interrupt during the import is handled, too
        with uncollected():
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


def _reserve_standard_streams() -> None:
    """Open what the caller has closed, so that no other file gets the number of a stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


if __name__ == "__main__":
    main()
