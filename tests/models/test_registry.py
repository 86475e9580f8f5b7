from __future__ import annotations

import re

import pytest
import torch

from upscale.errors import CheckpointError
from upscale.models import (
    RCANSpec,
    RealCUGANSpec,
    RealPLKSRSpec,
    RRDBSpec,
    SPANSpec,
    SRVGGSpec,
    UnknownArchitectureError,
    build,
    detect,
)

SPECS = [
    RRDBSpec(blocks=2, features=12, growth=6),
    RRDBSpec(blocks=1, features=8, growth=4, unshuffle=2),
    RRDBSpec(blocks=1, features=8, growth=4, unshuffle=4),
    RRDBSpec(blocks=11, features=8, growth=4, upsamples=1),
    RRDBSpec(blocks=1, features=8, growth=4, upsamples=0),
    RRDBSpec(blocks=1, features=8, growth=4, upsamples=3),
    RRDBSpec(blocks=1, features=8, growth=4, in_channels=1, out_channels=1),
    SRVGGSpec(scale=4),
    SRVGGSpec(scale=2, convolutions=32),
    SRVGGSpec(scale=1, convolutions=0, features=8),
    SPANSpec(),
    SPANSpec(scale=2, features=8, normalised=False),
    SPANSpec(scale=3, in_channels=1, out_channels=1, features=8),
    RCANSpec(scale=8, features=8, groups=11, blocks=1, reduction=4),
    RCANSpec(scale=3, features=12, groups=1, blocks=12, reduction=12, value_range=1),
    RealCUGANSpec(4, features=16),
    RealCUGANSpec(2, 1, 1, features=8, pro=True),
    RealPLKSRSpec(features=8, blocks=11, kernel=5, partial=2),
    RealPLKSRSpec(8, features=8, blocks=1, kernel=3, partial=8, attention=False),
    RCANSpec(2, 1, 1, features=8, groups=1, blocks=1, reduction=8, normalised=False, value_range=1),
]


def bsrgan_key(key, spec):
    key = re.sub(r"body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", key)
    key = key.replace("conv_body", "trunk_conv").replace("conv_hr", "HRconv")
    return re.sub(r"conv_up(\d)", r"upconv\1", key)


def old_esrgan_key(key, spec):
    """Number the layers; a doubling precedes each convolution of the tail but the last two."""
    key = re.sub(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.", r"model.1.sub.\1.RDB\2.conv\3.0.", key)
    names = {"conv_first": "model.0", "conv_body": f"model.1.sub.{spec.blocks}"}
    names |= {f"conv_up{i + 1}": f"model.{3 * i + 3}" for i in range(spec.upsamples)}
    after = 3 * spec.upsamples + 2
    names |= {"conv_hr": f"model.{after}", "conv_last": f"model.{after + 2}"}
    layer, _, rest = key.partition(".")
    return f"{names[layer]}.{rest}" if layer in names else key


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.describe())
def test_a_network_is_recognised_by_its_tensors(spec):
    state = build(spec).state_dict()
    detected = detect(state)
    assert detected.spec == spec
    assert build(detected.spec, detected.state).scale == spec.scale


@pytest.mark.parametrize("rename", [bsrgan_key, old_esrgan_key])
@pytest.mark.parametrize("spec", [s for s in SPECS if isinstance(s, RRDBSpec)], ids=str)
def test_every_key_dialect_gives_the_same_network(random_network, spec, rename):
    network = random_network(spec)
    state = {rename(key, spec): tensor for key, tensor in network.state_dict().items()}
    assert not set(state) & set(network.state_dict()) - {
        "conv_last.weight",
        "conv_last.bias",
        "conv_first.weight",
        "conv_first.bias",
    }
    detected = detect(state)
    assert detected.spec == spec
    side = 4 * spec.unshuffle
    image = torch.rand(1, spec.in_channels, side, side)
    assert torch.equal(build(detected.spec, detected.state)(image), network(image))


def test_half_precision_weights_are_loaded_in_fp32():
    state = {key: value.half() for key, value in build(SPECS[0]).state_dict().items()}
    detected = detect(state)
    assert {p.dtype for p in build(detected.spec, detected.state).parameters()} == {torch.float32}


def test_other_tensors_raise_unknown_architecture():
    with pytest.raises(UnknownArchitectureError):
        detect({"layer.weight": torch.zeros(3, 3)})
    with pytest.raises(UnknownArchitectureError):
        detect({})


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[7]], ids=str)
def test_a_missing_tensor_is_named(spec):
    state = build(spec).state_dict()
    name = [key for key in state if key.endswith("bias")][3]
    del state[name]
    with pytest.raises(CheckpointError, match=re.escape(name)):
        detect(state)


def test_a_tensor_of_a_wrong_shape_is_named():
    state = build(SPECS[0]).state_dict()
    state["body.1.rdb2.conv3.weight"] = torch.zeros(6, 24, 5, 5)
    with pytest.raises(CheckpointError, match=r"body\.1\.rdb2\.conv3\.weight has shape"):
        detect(state)


def test_an_extra_tensor_means_another_architecture():
    state = build(SPECS[0]).state_dict() | {"body.0.rdb1.attention.weight": torch.zeros(1)}
    with pytest.raises(UnknownArchitectureError, match="attention"):
        detect(state)


@pytest.mark.parametrize("key", ["conv_first.weight", "conv_last.weight"])
def test_a_tensor_with_the_wrong_number_of_axes_is_an_error_not_a_crash(key):
    state = build(SPECS[0]).state_dict() | {key: torch.zeros(3)}
    with pytest.raises(CheckpointError, match="axes"):
        detect(state)
