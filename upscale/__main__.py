"""`python -m upscale`, and the console script."""

from __future__ import annotations

import signal
import sys

from upscale.errors import ExitCode


def main() -> None:
    """Run the program and exit; being told to terminate ends it as cleanly as Ctrl-C does."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # imported here so that an interrupt during the imports is met, too
        from upscale.cli.app import run
        from upscale.cli.session import Session

        sys.exit(run(sys.argv[1:], Session.of_process()))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
