from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there")

SCRIPT = """
import signal, sys, time
from upscale.interrupts import install, raises_interrupt
install()
number = int(sys.argv[1])
try:
    print(raises_interrupt(number), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("cleaning up", raises_interrupt(number), flush=True)
    while True:
        time.sleep(1)
"""


def start(*arguments: object, ignored: int | None = None) -> subprocess.Popen[str]:
    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509
    )


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_the_program_at_once(first, second):
    process = start(int(first))
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "True\n"
        process.send_signal(first)
        assert process.stdout.readline() == "cleaning up False\n"
        process.send_signal(second)
        assert process.wait() == 130


def test_ignored_signals_stay_ignored():
    process = start(int(signal.SIGHUP), ignored=signal.SIGHUP)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "False\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cleaning up False\n"
        process.kill()
