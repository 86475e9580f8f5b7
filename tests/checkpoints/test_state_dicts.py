"""Reading and writing checkpoints: formats, wrappers, and malicious files."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from upscale.checkpoints import read_metadata, read_state_dict, write_safetensors
from upscale.errors import CheckpointError


def tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {"conv_first.weight": torch.randn(4, 3, 3, 3), "conv_first.bias": torch.randn(4)}


def assert_same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key


def message_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_state_dict(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".weights"])
def test_plain_torch_file_is_read(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(tiny_state(), path, _use_new_zipfile_serialization=zipped)
    assert_same(read_state_dict(path), tiny_state())


@pytest.mark.parametrize(
    "wrapper",
    ["params_ema", "params", "state_dict", "model_state_dict", "model", "generator", "net_g"],
)
def test_wrapper_is_opened(tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "net.pth"
    torch.save({wrapper: tiny_state(), "iter": 5, "optimizer": {"lr": 0.1}}, path)
    assert_same(read_state_dict(path), tiny_state())


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(
        {"params": tiny_state(1), "state_dict": tiny_state(2), "params_ema": tiny_state(3)}, path
    )
    assert_same(read_state_dict(path), tiny_state(3))


def test_wrapper_in_wrapper_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"state_dict": {"params": tiny_state(1), "params_ema": tiny_state(2)}}, path)
    assert_same(read_state_dict(path), tiny_state(2))


def test_empty_wrapper_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params_ema": {}, "params": tiny_state()}, path)
    assert_same(read_state_dict(path), tiny_state())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_common_prefix_is_removed(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": {prefix + key: value for key, value in tiny_state().items()}}, path)
    assert_same(read_state_dict(path), tiny_state())


def test_torch_averaged_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    state = {"module." + key: value for key, value in tiny_state().items()}
    torch.save(state | {"n_averaged": torch.tensor(7)}, path)
    assert_same(read_state_dict(path), tiny_state())


def test_old_esrgan_keys_keep_their_prefix(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model.0.weight": torch.ones(2), "model.0.bias": torch.ones(1)}, path)
    assert set(read_state_dict(path)) == {"model.0.weight", "model.0.bias"}


def test_entries_other_than_tensors_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(tiny_state() | {"epoch": 3, "name": "x", "nothing": None}, path)
    assert_same(read_state_dict(path), tiny_state())


def test_parameters_become_plain_tensors(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({key: torch.nn.Parameter(value) for key, value in tiny_state().items()}, path)
    for tensor in read_state_dict(path).values():
        assert type(tensor) is torch.Tensor
        assert not tensor.requires_grad


def test_content_takes_precedence_over_the_suffix(tmp_path: Path) -> None:
    torch.save(tiny_state(), tmp_path / "net.safetensors")
    safetensors.torch.save_file(tiny_state(), tmp_path / "net.pth")
    torch.save(tiny_state(), tmp_path / "pytorch_model.bin")
    for name in ("net.safetensors", "net.pth", "pytorch_model.bin"):
        assert_same(read_state_dict(tmp_path / name), tiny_state())


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_with_code_is_rejected_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, trap = tmp_path / "net.pth", tmp_path / "trap"
    path.write_bytes(pickle.dumps({"params": Evil(trap)}, protocol=protocol))
    assert "could run code" in message_of(path)
    assert not trap.exists()
    pickle.loads(path.read_bytes())
    assert trap.exists(), "the trap works, so the test can fail"


def test_zip_checkpoint_with_code_is_rejected_and_not_run(tmp_path: Path) -> None:
    path, trap = tmp_path / "net.pth", tmp_path / "trap"
    torch.save({"params": tiny_state(), "hook": Evil(trap)}, path)
    assert "could run code" in message_of(path)
    assert not trap.exists()


def test_pickled_module_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(torch.nn.Conv2d(3, 3, 3), path)
    assert "objects other than tensors" in message_of(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {}, {"epoch": 1}, {"params": {"a": 1}}])
def test_file_without_tensors_is_rejected(tmp_path: Path, content: object) -> None:
    path = tmp_path / "net.pth"
    torch.save(content, path)
    assert "contains" in message_of(path)


def test_every_truncation_of_a_torch_file_is_rejected(tmp_path: Path) -> None:
    whole, path = io.BytesIO(), tmp_path / "net.pth"
    torch.save(tiny_state(), whole)
    data = whole.getvalue()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        message_of(path)


def test_every_truncation_of_a_legacy_file_is_rejected(tmp_path: Path) -> None:
    whole, path = io.BytesIO(), tmp_path / "net.pth"
    torch.save(tiny_state(), whole, _use_new_zipfile_serialization=False)
    data = whole.getvalue()
    for length in range(0, len(data), 41):
        path.write_bytes(data[:length])
        message_of(path)


def test_every_truncation_of_a_safetensors_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    data = safetensors.torch.save(tiny_state())
    for length in range(0, len(data), 29):
        path.write_bytes(data[:length])
        message_of(path)


def test_safetensors_header_that_declares_terabytes_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 64)
    assert "damaged" in message_of(path)


def test_compressed_archive_is_rejected_before_extraction(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\0" * (1 << 20))
    assert "compressed" in message_of(path)


def test_other_archive_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "unpack me")
    assert "zip archive" in message_of(path)


@pytest.mark.parametrize("shape", [(2, 1000), (1 << 40, 1)])
def test_view_larger_than_its_data_is_rejected(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(shape[1]).expand(shape)}, path)
    assert "larger than its data" in message_of(path)


def test_many_views_of_the_same_data_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    data = torch.zeros(10_000)
    torch.save({f"a{index}": data[:] for index in range(1000)}, path)
    assert "larger than the file" in message_of(path)


def test_sparse_tensor_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.eye(3).to_sparse()}, path)
    message_of(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_infinity_and_nan_are_rejected(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "net.safetensors"
    state = tiny_state()
    state["conv_first.bias"][2] = bad
    write_safetensors(state, path, {})
    assert "conv_first.bias has values that are not finite" in message_of(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Not found", "web page"),
        (b"\n  <html>Not found", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (bytes.fromhex("f3a1c07e5b92d846") + b"\x00" * 300, "damaged"),
    ],
)
def test_common_mistakes_are_reported(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert message in message_of(path)


def test_missing_file_and_folder_are_rejected(tmp_path: Path) -> None:
    assert "cannot be read" in message_of(tmp_path / "none.pth")
    assert "folder" in message_of(tmp_path)


def test_image_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 90)
    assert "not a checkpoint" in message_of(path)


def test_write_then_read_keeps_types_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "net.safetensors"
    state = {
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "whole": torch.arange(3),
        "turned": torch.randn(4, 6).t(),
    }
    write_safetensors(state, path, {"licence": "MIT", "name": "ñ"})
    assert_same(read_state_dict(path), {key: value.contiguous() for key, value in state.items()})
    assert read_metadata(path) == {"licence": "MIT", "name": "ñ"}


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    data = torch.randn(8)
    write_safetensors({"a": data, "b": data, "c": data[2:4]}, path, {})
    assert_same(read_state_dict(path), {"a": data, "b": data, "c": data[2:4]})


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_safetensors(tiny_state(), path, {"name": "old"})
    with pytest.raises(TypeError):
        write_safetensors(tiny_state(), path, {"name": 5})  # type: ignore[dict-item]
    assert read_metadata(path) == {"name": "old"}
    assert [item.name for item in tmp_path.iterdir()] == ["net.safetensors"]


def test_write_below_a_file_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_safetensors(tiny_state(), tmp_path / "file" / "net.safetensors", {})


def test_metadata_of_other_files_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="not a usable safetensors"):
        read_metadata(path)
