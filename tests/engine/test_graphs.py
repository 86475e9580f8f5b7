"""Recorded frames, with a stand-in for `torch.cuda.graph` that records and replays on the CPU."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from upscale.engine import graphs
from upscale.engine.feature_maps import FeatureMaps
from upscale.engine.graphs import FrameGraphs
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.errors import CheckpointError
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.tiling import exact

CPU = torch.device("cpu")


class Stream:
    def __init__(self, device):
        self.device = device


class Graph:
    """Repeats recorded operations, each of which writes to the memory that it wrote to before."""

    made: ClassVar[list[Graph]] = []

    def __init__(self):
        self.operations, self.replays = [], 0
        Graph.made.append(self)

    def replay(self):
        self.replays += 1
        for func, args, kwargs, results in self.operations:
            again = tree_leaves(func(*args, **kwargs))
            for old, new in zip(tree_leaves(results), again, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Capture(TorchDispatchMode):
    """Records operations; waiting for a value of the device ends it, as in CUDA."""

    def __init__(self, graph, *, stream, capture_error_mode):
        super().__init__()
        assert (stream.device, capture_error_mode) == (CPU, "thread_local")
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "_local_scalar_dense":
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.graph.operations.append((func, args, kwargs or {}, result))
        return result


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """Stand-ins for CUDA's functions; NumPy copies nothing, because it is not recorded."""
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(graphs, "available_memory", lambda device: 1 << 40)
    monkeypatch.setattr(FeatureMaps, "recycle", lambda self, feature_map: None)
    monkeypatch.setattr(exact, "copy", lambda target, source: target.copy_(source))
    monkeypatch.setattr(exact, "_clear", lambda target: target.zero_())


def frame(seed, height=30, width=24, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator)


@pytest.fixture
def make(random_network):
    """Makes an upscaler that records as on CUDA, and another that does not."""

    def of(spec):
        model = Model.from_network("random", random_network(spec))
        options = {"device": "cpu", "tile": 16, "kernels": False}
        recording = Upscaler(model, **options)
        recording._graphs._can_record = True
        return recording, Upscaler(model, **options)

    return of


SPECS = [
    RRDBSpec(blocks=1, features=8, growth=4),
    RRDBSpec(blocks=1, features=8, growth=4, upsamples=2, unshuffle=2),
    SRVGGSpec(2, features=8, convolutions=2),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_replayed_frames_equal_computed_ones(make, spec):
    recording, plain = make(spec)
    results = [recording.run_tensor(frame(seed)) for seed in range(5)]
    for seed, result in enumerate(results):
        assert torch.equal(result, plain.run_tensor(frame(seed)))
    [graph] = Graph.made
    assert graph.replays == 4, "the first frame is computed, all others are replayed"


def test_results_are_not_overwritten_by_the_next_frame(make):
    recording, _ = make(SPECS[2])
    recording.run_tensor(frame(0))
    first = recording.run_tensor(frame(1))
    kept = first.clone()
    recording.run_tensor(frame(2))
    assert torch.equal(first, kept)


def test_colours_and_alpha_are_recorded_separately(make):
    recording, plain = make(SPECS[2])
    for seed in range(4):
        for channels in (3, 1):
            source = frame(seed, channels=channels)
            assert torch.equal(recording.run_tensor(source), plain.run_tensor(source))
    assert [graph.replays for graph in Graph.made] == [3, 3]


def test_other_shapes_replace_the_recorded_ones(make):
    recording, plain = make(SPECS[2])
    for width in (20, 20, 21, 22, 23, 20, 20):
        source = frame(width, width=width)
        assert torch.equal(recording.run_tensor(source), plain.run_tensor(source))
    assert [graph.replays for graph in Graph.made] == [1, 1]
    assert len(recording._graphs._shapes) <= graphs.MOST_SHAPES


def test_frames_are_computed_as_usual_if_recording_fails(make, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    recording, plain = make(SPECS[2])
    for seed in range(4):
        assert torch.equal(recording.run_tensor(frame(seed)), plain.run_tensor(frame(seed)))
    assert len(Graph.made) == 1, "it is tried once"


def test_nothing_is_recorded_without_room_for_its_memory(make, monkeypatch):
    recording, plain = make(SPECS[2])
    needed = plain._runner.planned_bytes(24, 30, torch.float32) + frame(0).nbytes * 5
    for missing, recorded in ((1, 0), (0, 1)):
        room = (needed - missing) / graphs.MEMORY_SHARE
        monkeypatch.setattr(graphs, "available_memory", lambda device, room=room: room)
        for seed in range(3):
            assert torch.equal(recording.run_tensor(frame(seed)), plain.run_tensor(frame(seed)))
        assert len(Graph.made) == recorded


def test_graphs_are_dropped_when_memory_runs_out(make, monkeypatch):
    recording, plain = make(SPECS[2])
    for seed in range(2):
        recording.run_tensor(frame(seed))
    assert any(recording._graphs._shapes.values())

    def scarce(self):
        monkeypatch.undo()
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "clone", scarce)
    recording.run_tensor(frame(2))
    assert not any(recording._graphs._shapes.values())
    assert torch.equal(recording.run_tensor(frame(3)), plain.run_tensor(frame(3)))


def test_a_replayed_frame_that_is_not_finite_is_found(make):
    recording, _ = make(SPECS[2])
    for seed in range(2):
        recording.run_tensor(frame(seed))
    broken = frame(2)
    broken[0, 0, 3, 3] = torch.nan
    with pytest.raises(CheckpointError, match="not finite"):
        recording.run_tensor(broken)


def test_flips_and_turns_are_not_recorded(random_network):
    model = Model.from_network("random", random_network(SPECS[2]))
    upscaler = Upscaler(model, device="cpu", tile=16, tta=True)
    upscaler._graphs._can_record = True
    for seed in range(3):
        upscaler.run_tensor(frame(seed))
    assert Graph.made == []


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_only_cuda_records(device):
    seen = []
    recorder = FrameGraphs(torch.device(device))
    for seed in range(3):
        recorder.run(frame(seed), torch.float32, seen.append, lambda: 0)
    assert len(seen) == 3 and Graph.made == []
    recorder.clear()


def test_a_frame_that_is_elsewhere_is_not_recorded():
    seen = []
    recorder = FrameGraphs(torch.device("cuda", 0))
    for seed in range(3):
        recorder.run(frame(seed), torch.float32, seen.append, lambda: 0)
    assert len(seen) == 3 and Graph.made == []
