"""Compare our reading of all images in folders with those of independent readers.

    python -m tests.images.agreement FOLDER... [--jobs N] [--at-least SHARE]

Prints each disagreement, and the share of files that agree: of those that we and another reader
read, those where another reader has the same pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.images.agreement.readers import READERS
from tests.images.agreement.report import compare_all, remark, share, table


def main() -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.images.agreement", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="Files compared at the same time.")
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="SHARE", help="Fail below this share, 0..1."
    )
    options = parser.parse_args()
    for folder in options.folders:
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    paths = sorted(
        path for folder in options.folders for path in folder.rglob("*") if path.is_file()
    )
    installed = [reader.name for reader in READERS if reader.is_installed()]
    print(f"{len(paths)} files; independent readers: {', '.join(installed)}", flush=True)
    verdicts = []
    for verdict in compare_all(paths, options.jobs):
        verdicts.append(verdict)
        if line := remark(verdict):
            print(line, flush=True)
    print(*table(verdicts), sep="\n")
    return 0 if (share(verdicts) or 0.0) >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
