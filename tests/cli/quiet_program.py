"""The program with an engine that repeats pixels; run as a separate program by a test.

Arguments are those of the default command.
"""

from __future__ import annotations

from tests.cli.conftest import FakeUpscaler
from upscale.__main__ import main
from upscale.cli import image_batch

if __name__ == "__main__":
    image_batch.make_upscaler = lambda engine, view: FakeUpscaler(engine)
    main()
