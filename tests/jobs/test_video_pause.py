"""A video that is stopped by a signal, as Ctrl-Z and `kill -STOP` do, and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.test_video_containers import starts, upscale
from tests.video.clips import Clip, even, make
from tests.video.videos import packets
from upscale.errors import OutputError

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from pathlib import Path
from tests.jobs.test_video_containers import Doubling, upscale

class Slow(Doubling):
    def run_tensor(self, image, *, size=None):
        if self.runs == 5:
            print("five", flush=True)
            sys.stdin.readline()
        return super().run_tensor(image, size=size)

upscale(Path("in.mp4"), Path("out.mp4"), upscaler=Slow())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no such signal")
def test_a_stopped_video_keeps_its_lock_and_goes_on(tmp_path):
    source = make(Clip(even(12), sound=True), tmp_path / "in.mp4")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "five\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        with pytest.raises(OutputError, match="is in use"):
            upscale(source, tmp_path / "out.mp4")
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait() == 0
    upscale(source, tmp_path / "whole.mp4")
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "whole.mp4")
    assert len(starts(tmp_path / "out.mp4")) == 12
