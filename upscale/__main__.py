"""`python -m upscale`, and the console script."""

from __future__ import annotations

import signal
import sys
import warnings

from upscale.errors import ExitCode


def main() -> None:
    """Run the program and exit; being told to end ends it as cleanly as Ctrl-C does."""
    try:
        _treat_as_interrupts("SIGTERM", "SIGHUP")
        # Pillow warns of damaged tags, which are left out; what matters becomes an error.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # imported here so that an interrupt during the imports is met, too
        from upscale.cli.app import run
        from upscale.cli.session import Session

        sys.exit(run(sys.argv[1:], Session.of_process()))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _treat_as_interrupts(*names: str) -> None:
    """Let signals (a shutdown, a closed terminal) interrupt, unless they are ignored (nohup)."""
    for name in names:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    main()
