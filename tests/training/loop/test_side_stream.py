"""The order of streams, with stand-ins for those of a GPU."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from upscale_training.loop.side_stream import SideStream


class Stream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class Result:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def record_stream(self, stream: Stream) -> None:
        self.log.append(f"its memory belongs to {stream.name}, too")


@pytest.fixture
def log(monkeypatch) -> list[str]:
    log: list[str] = []
    current = [Stream(log, "main")]

    @contextmanager
    def entered(stream: Stream):
        current.append(stream)
        yield
        current.pop()

    monkeypatch.setattr("torch.cuda.Stream", lambda device: Stream(log, "side"))
    monkeypatch.setattr("torch.cuda.stream", entered)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device=None: current[-1])
    return log


def test_work_is_queued_beside_earlier_work_and_before_later_work(log):
    side = SideStream(torch.device("cuda"))

    def work() -> tuple:
        log.append(f"work on {torch.cuda.current_stream().name}")
        return (Result(log),)

    side.run(work)
    assert log == ["work on side", "main waits for side", "its memory belongs to main, too"]


def test_a_cpu_just_does_it(log):
    side = SideStream(torch.device("cpu"))
    assert side.run(lambda: (torch.ones(2),))[0].sum() == 2
    assert log == []
