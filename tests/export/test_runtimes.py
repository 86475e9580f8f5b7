"""Exported networks, computed by ONNX Runtime and ncnn and compared with PyTorch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from upscale.checkpoints import read_state_dict, write_safetensors
from upscale.engine.upscaler import Upscaler
from upscale.errors import CheckpointError
from upscale.export.graph import trace
from upscale.export.ncnn_model import ncnn_model
from upscale.export.onnx_check import largest_difference
from upscale.export.onnx_model import onnx_model
from upscale.models import RCANSpec, RealPLKSRSpec, RRDBSpec, SPANSpec, SRVGGSpec, detect

SMALL = {"features": 8}
RRDB = {"features": 8, "blocks": 1, "growth": 4}
SPECS = {
    "srvgg": SRVGGSpec(scale=3, convolutions=2, **SMALL),
    "rrdbnet-x4": RRDBSpec(**RRDB),
    "rrdbnet-x2": RRDBSpec(unshuffle=2, **RRDB),
    "rrdbnet-x1": RRDBSpec(unshuffle=4, **RRDB),
    "span": SPANSpec(scale=2, **SMALL),
    "span-plain": SPANSpec(scale=2, normalised=False, **SMALL),
    "realplksr": RealPLKSRSpec(blocks=1, kernel=7, partial=2, **SMALL),
    "rcan": RCANSpec(groups=1, blocks=2, reduction=4, **SMALL),
    "rcan-grey": RCANSpec(
        3, 1, 1, groups=1, blocks=1, reduction=4, normalised=False, value_range=1, **SMALL
    ),
}


@pytest.fixture(scope="module")
def traced(random_network):
    """Networks and their operations by name, each traced once."""
    found = {}

    def make(name):
        if name not in found:
            network = random_network(SPECS[name])
            found[name] = (network, trace(network))
        return found[name]

    return make


def upscaled(network, image, tmp_path):
    """Return what `upscale` computes for an (H, W, C) image in 0..1, without clamping."""
    path = tmp_path / "net.safetensors"
    write_safetensors(network.state_dict(), path, {})
    return Upscaler(str(path), device="cpu", tile=0).upscale(image)


@pytest.mark.parametrize("name", SPECS)
def test_onnx_runtime_computes_the_same_for_any_size(traced, name):
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    network, graph = traced(name)
    model = onnx_model(graph, {"name": name})
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    side, scale, channels = network.unshuffle, network.scale, network.spec.in_channels
    for count, height, width in [(1, 24, 20), (2, 7, 9), (1, 1, 2), (1, 33, 18)]:
        image = torch.rand(count, channels, height, width)
        padded = F.pad(image, (0, -width % side, 0, -height % side), mode="replicate")
        with torch.inference_mode():
            expected = network(padded)[:, :, : height * scale, : width * scale].numpy()
        (result,) = session.run(["output"], {"input": image.numpy()})
        assert result.shape == expected.shape
        if height % side or width % side:  # another test checks how an edge is continued
            continue
        assert np.abs(result - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("size", [(7, 9), (1, 2)])
def test_an_onnx_model_with_pixel_unshuffle_continues_odd_sizes_as_upscale_does(
    traced, size, tmp_path
):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network, graph = traced("rrdbnet-x1")
    image = np.random.default_rng(1).random((*size, 3), np.float32)
    session = runtime.InferenceSession(onnx_model(graph, {}), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": image.transpose(2, 0, 1)[None]})
    result = result[0].transpose(1, 2, 0).clip(0, 1)
    assert np.abs(result - upscaled(network, image, tmp_path)).max() < 1e-5


def test_an_fp16_model_reads_and_writes_fp16_and_is_close(traced):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network, graph = traced("rrdbnet-x2")
    model = onnx_model(graph, {}, half=True)
    assert len(model) < 0.75 * len(onnx_model(graph, {}))
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    kinds = {each.type for each in (*session.get_inputs(), *session.get_outputs())}
    assert kinds == {"tensor(float16)"}
    assert 0 < largest_difference(model, network, half=True) < 0.01


def test_the_metadata_is_in_the_onnx_model_and_no_path_of_this_machine(traced):
    onnx = pytest.importorskip("onnx")
    _, graph = traced("srvgg")
    content = onnx_model(graph, {"name": "mine", "licence": "MIT"})
    model = onnx.load_from_string(content)
    assert {each.key: each.value for each in model.metadata_props} == {
        "name": "mine",
        "licence": "MIT",
    }
    assert b".py" not in content


def test_a_model_that_differs_is_refused(traced, random_network):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network, graph = traced("srvgg")
    assert largest_difference(onnx_model(graph, {}), network) < 1e-5
    other = random_network(network.spec, seed=1)
    with pytest.raises(CheckpointError, match="nothing was written"):
        largest_difference(onnx_model(graph, {}), other)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_ncnn_computes_the_same(traced, name, half, tmp_path):
    ncnn = pytest.importorskip("ncnn")
    network, graph = traced(name)
    param, weights = ncnn_model(graph, half=half)
    (tmp_path / "net.param").write_text(param)
    (tmp_path / "net.bin").write_bytes(weights)
    net = ncnn.Net()
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16", "use_winograd", "use_sgemm")):
            setattr(net.opt, option, False)
    assert net.load_param(str(tmp_path / "net.param")) == 0
    assert net.load_model(str(tmp_path / "net.bin")) == 0
    image = torch.rand(network.spec.in_channels, 12, 8)
    with torch.inference_mode():
        expected = network(image[None])[0].numpy()
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(image.numpy()).clone())
    code, result = extractor.extract("output")
    assert code == 0
    tolerance = (0.05 if half else 1e-5) * max(np.abs(expected).max(), 1)
    assert np.abs(np.array(result).reshape(expected.shape) - expected).max() < tolerance


@pytest.mark.parametrize("name", ["srvgg", "rrdbnet-x4", "rrdbnet-x2", "rrdbnet-x1"])
def test_ncnn_files_are_read_back_bit_by_bit(traced, name, tmp_path):
    network, graph = traced(name)
    param, weights = ncnn_model(graph)
    (tmp_path / "net.param").write_text(param)
    (tmp_path / "net.bin").write_bytes(weights)
    detected = detect(read_state_dict(tmp_path / "net.param"))
    assert detected.spec == network.spec
    state = network.state_dict()
    assert detected.state.keys() == state.keys()
    assert all(torch.equal(detected.state[key], state[key]) for key in state)


def test_an_ncnn_file_with_another_pixel_unshuffle_is_refused(traced, tmp_path):
    param, weights = ncnn_model(traced("rrdbnet-x2")[1])
    assert "Reorg" in param
    text = re.sub(r"^(Reorg .*) 0=2$", r"\1 0=3", param, flags=re.MULTILINE)
    (tmp_path / "net.param").write_text(text)
    (tmp_path / "net.bin").write_bytes(weights)
    with pytest.raises(CheckpointError, match="pixel-unshuffle does not match"):
        read_state_dict(tmp_path / "net.param")


class Unusual(torch.nn.Module):
    unshuffle = 1
    spec = SRVGGSpec()

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, image):
        return self.layer(image)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (torch.nn.Softmax(1), "the operation softmax"),
        (torch.nn.Conv2d(3, 3, 3, stride=2, padding=1), "the convolution layer has a stride"),
        (torch.nn.Upsample(scale_factor=1.5), "resizes by a fraction"),
    ],
)
def test_an_operation_without_translation_is_named(layer, reason):
    with pytest.raises(CheckpointError, match=reason) as raised:
        trace(Unusual(layer))
    assert "use safetensors or pth" in str(raised.value)
