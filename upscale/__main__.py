"""`python -m upscale`, and the console script."""

from __future__ import annotations

import signal
import sys

from upscale.cli.app import run
from upscale.cli.session import Session


def main() -> None:
    """Run the program and exit; being told to terminate ends it as cleanly as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:], Session.of_process()))


if __name__ == "__main__":
    main()
