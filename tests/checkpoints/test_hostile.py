"""Hostile checkpoints are refused in one line, within 5 s of CPU time and 500 MB."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.checkpoints.hostile import (
    PICKLES,
    STATES,
    legacy,
    read_under_limits,
    srvgg,
    state,
    tensor,
)
from upscale.checkpoints import read_metadata, read_state_dict
from upscale.errors import CheckpointError
from upscale.models import build, detect

needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")


def refusal_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        detect(read_state_dict(path))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(path))
    return str(raised.value)


@pytest.mark.parametrize("case", PICKLES)
def test_hostile_pickle_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, message = PICKLES[case]
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    refusal = refusal_of(path)
    assert message in refusal and str(path) in refusal


@pytest.mark.parametrize("case", STATES)
def test_hostile_state_dict_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    tensors, message = STATES[case]
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(tensors, path)
    assert message in refusal_of(path)


@needs_limits
@pytest.mark.slow
def test_all_hostile_checkpoints_stay_within_the_limits(tmp_path: Path) -> None:
    paths: list[Path] = []
    for case, (content, _) in PICKLES.items():
        paths.append(tmp_path / f"{case}.pth")
        paths[-1].write_bytes(content)
    for case, (tensors, _) in STATES.items():
        paths.append(tmp_path / f"{case}.safetensors")
        safetensors.torch.save_file(tensors, paths[-1])
    for path in paths:
        assert read_under_limits(path).startswith("refused: "), path.name
    print(f"\n{len(paths)} hostile checkpoints refused within 5 s and 500 MB each")


@needs_limits
@pytest.mark.parametrize(
    "case", ["bytearray", "copies", "many_instructions", "legacy_storage", "million_layers"]
)
def test_costly_checkpoints_stay_within_the_limits(case: str, tmp_path: Path) -> None:
    path = tmp_path / "net"
    if case in PICKLES:
        path.write_bytes(PICKLES[case][0])
    else:
        safetensors.torch.save_file(STATES[case][0], path)
    assert read_under_limits(path).startswith("refused: ")


@needs_limits
def test_good_checkpoint_is_read_within_the_same_limits(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": srvgg()}, path)
    assert read_under_limits(path).startswith("read: SRVGGNetCompact x4")


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_all_usual_types_of_floats_are_read(kind: str, form: str, tmp_path: Path) -> None:
    dtype, path = getattr(torch, kind), tmp_path / "net"
    if form == "legacy" and dtype.itemsize == 1:
        pytest.skip("torch writes such files but does not read them")
    tensors = {key: value.to(dtype) for key, value in srvgg().items()}
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    detected = detect(read_state_dict(path))
    assert detected.state["body.0.weight"].dtype is dtype
    built = build(detected.spec, detected.state).state_dict()
    assert torch.equal(built["body.0.weight"], tensors["body.0.weight"].float())


def test_infinite_float8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    bad = torch.full((4,), float("inf")).to(torch.float8_e5m2)
    safetensors.torch.save_file(srvgg() | {"body.1.weight": bad}, path)
    assert "body.1.weight has values that are not finite" in refusal_of(path)


def test_complex_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(srvgg() | {"x": torch.zeros(2, dtype=torch.complex64)}, path)
    assert "the tensor x has the type complex64" in refusal_of(path)


def test_checkpoint_of_a_training_program_is_read(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(3, 4, 3)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 3, 5, 5)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5, 5])
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimiser.state_dict(),
        "scheduler": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "shape": network.weight.shape,
        "type": torch.float32,
        "device": torch.device("cpu"),
        "epoch": 5,
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "net.ckpt", _use_new_zipfile_serialization=zipped)
        read = read_state_dict(tmp_path / "net.ckpt")
        assert torch.equal(read["weight"], network.weight)


def test_views_that_share_a_storage_are_read(tmp_path: Path) -> None:
    data = torch.arange(24.0)
    tensors = {"a": data.view(4, 6).t(), "b": data[3:9], "c": data[::2], "d": data[:0]}
    for zipped in (True, False):
        torch.save(tensors, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
        read = read_state_dict(tmp_path / "net.pth")
        assert all(torch.equal(read[key], value) for key, value in tensors.items())


def test_long_safetensors_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    entry = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    header = "{" + ",".join(f'"{index}":{entry}' for index in range(150_000)) + "}"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    assert "header is too long" in refusal_of(path)
    with pytest.raises(CheckpointError, match="header is too long"):
        read_metadata(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs among files")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pth")
    assert "not a regular file" in refusal_of(tmp_path / "net.pth")


def test_legacy_file_of_our_own_making_is_read_with_true_sizes(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(legacy(state(tensor(2, old=True)), 2) + bytes(8))
    assert list(read_state_dict(tmp_path / "net.pth")) == ["w"]
