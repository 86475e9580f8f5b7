from __future__ import annotations

import pytest

from upscale.checkpoints import read_metadata, write_safetensors
from upscale.models import RRDBSpec, SRVGGSpec


@pytest.fixture
def network(random_network, tmp_path):
    path = tmp_path / "small.safetensors"
    small = random_network(SRVGGSpec(scale=2, features=8, convolutions=1))
    write_safetensors(small.state_dict(), path, {"licence": "MIT", "recipe": "name: small\n"})
    return path


def test_every_format_is_written_and_named(call, network, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    ended = call("models", "export", str(network), "-o", "net.onnx", "--card", "net.md")
    assert (ended.code, ended.out) == (0, "net.onnx\nnet.md\n"), ended.err
    assert ended.err.startswith("checked: ONNX Runtime differs from PyTorch by at most ")
    card = (tmp_path / "net.md").read_text()
    assert "licence | MIT" in card and "name: small" in card
    ended = call("models", "export", "small.safetensors", "--to", "ncnn", "-o", "net.param")
    assert (ended.code, ended.out) == (0, "net.bin\nnet.param\n"), ended.err
    assert call("models", "export", "net.param", "-o", "net.pth", "--half").code == 0
    assert call("models", "export", "net.pth", "-o", "net.safetensors").code == 0
    assert read_metadata(tmp_path / "net.safetensors")["scale"] == "2"


def test_an_existing_file_stays_without_overwrite(call, network, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"mine")
    ended = call("models", "export", str(network), "-o", "net.pth")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert (tmp_path / "net.pth").read_bytes() == b"mine"
    assert call("models", "export", str(network), "-o", "net.pth", "--overwrite").code == 0


def test_ncnn_names_the_sizes_that_it_takes(call, random_network, tmp_path):
    x2 = random_network(RRDBSpec(features=8, blocks=1, growth=4, unshuffle=2))
    write_safetensors(x2.state_dict(), tmp_path / "x2.safetensors", {})
    ended = call("models", "export", "x2.safetensors", "-o", "x2.param")
    assert ended.code == 0
    assert "note: width and height must be multiples of 2 in ncnn" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "net.txt"], "net.txt: the file name must end in .onnx, .param, .pth"),
        (["-o", "net.onnx", "--to", "tflite"], "--to tflite: must be one of onnx, ncnn"),
        (["-o", "net.pth", "--scores", "s.csv"], "--scores: needs --card FILE"),
        (["-o", "net.pth", "--card", "net.pth"], "--card net.pth: is the network's own file"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(call, network, options, message, tmp_path):
    ended = call("models", "export", str(network), *options)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]


def test_onnx_without_its_package_says_how_to_install_it(call, network, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    ended = call("models", "export", str(network), "-o", "net.onnx")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "pip install 'upscale[export]'" in ended.err


def test_another_architecture_is_refused_in_one_line(call, tmp_path):
    import torch

    write_safetensors({"layer.weight": torch.ones(3)}, tmp_path / "odd.safetensors", {})
    ended = call("models", "export", "odd.safetensors", "-o", "net.onnx")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "odd.safetensors: only built-in architectures can be exported" in ended.err
