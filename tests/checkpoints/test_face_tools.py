"""Files of networks that find and parse faces."""

from __future__ import annotations

import pytest
import torch

from upscale.checkpoints import load_face_detector, load_face_parser
from upscale.errors import CheckpointError
from upscale.models.faces.parsenet import build_parsenet
from upscale.models.faces.retinaface import build_retinaface


@pytest.fixture(scope="module")
def mobilenet():
    """The state dict of RetinaFace on MobileNet, with random values."""
    torch.manual_seed(1)
    return build_retinaface({"body.stage1.0.0.weight": torch.zeros(1)}).state_dict()


def saved(path, state):
    torch.save(state, path)
    return path


def test_a_detector_of_facexlib_is_read_with_the_prefix_of_its_training(mobilenet, tmp_path):
    """The official files have keys of a data-parallel module, and no counts of batches."""
    state = {
        f"module.{key}": value
        for key, value in mobilenet.items()
        if not key.endswith("num_batches_tracked")
    }
    network = load_face_detector(saved(tmp_path / "detection.pth", state))
    assert not network.training
    loaded = network.state_dict()
    assert all((loaded[key] == value).all() for key, value in mobilenet.items())


def test_both_backbones_are_recognised():
    network = build_retinaface({"body.layer1.0.conv1.weight": torch.zeros(1)})
    keys = network.state_dict().keys()
    assert {"body.layer4.2.conv3.weight", "body.layer2.0.downsample.1.bias"} <= keys
    assert "body.fc.weight" not in keys
    assert sum(each.numel() for each in network.parameters()) == pytest.approx(27.3e6, rel=0.01)


def test_a_parser_of_facexlib_is_read(tmp_path):
    torch.manual_seed(2)
    state = build_parsenet({"out_mask_conv.conv2d.weight": torch.zeros(1)}).state_dict()
    assert "encoder.1.conv1.norm.norm.running_mean" in state
    network = load_face_parser(saved(tmp_path / "parsing.pth", state))
    with torch.inference_mode():
        scores = network(torch.randn(1, 3, 32, 48))
    assert scores.shape == (1, 19, 32, 48)
    assert scores.std() > 0


@pytest.mark.parametrize(
    ("load", "name"), [(load_face_detector, "RetinaFace"), (load_face_parser, "ParseNet")]
)
def test_other_networks_are_refused_with_their_file(load, name, tmp_path):
    path = saved(tmp_path / "other.pth", {"a.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=rf"other.pth: is not a checkpoint of {name}"):
        load(path)


def test_a_file_without_some_tensors_is_refused_on_one_line(mobilenet, tmp_path):
    state = {key: value for key, value in mobilenet.items() if not key.startswith("fpn.")}
    with pytest.raises(
        CheckpointError, match=r"short.pth: is not a checkpoint of RetinaFace \("
    ) as error:
        load_face_detector(saved(tmp_path / "short.pth", state))
    assert "\n" not in str(error.value)
