"""Networks that find and parse faces, from files with the names of facexlib's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from upscale.checkpoints.state_dicts import read_state_dict
from upscale.errors import CheckpointError
from upscale.files.error_mapping import one_line
from upscale.models.faces.parsenet import ParseNet, build_parsenet
from upscale.models.faces.retinaface import RetinaFace, build_retinaface

N = TypeVar("N", bound=nn.Module)


def load_face_detector(path: Path) -> RetinaFace:
    """Load a checkpoint of RetinaFace, on ResNet-50 or MobileNet, on the CPU.

    Raises:
        CheckpointError: The file is unusable, or another network.
    """
    return _loaded(path, build_retinaface, "RetinaFace")


def load_face_parser(path: Path) -> ParseNet:
    """Load a checkpoint of ParseNet, on the CPU.

    Raises:
        CheckpointError: The file is unusable, or another network.
    """
    return _loaded(path, build_parsenet, "ParseNet")


def _loaded(path: Path, build: Callable[[Mapping[str, Tensor]], N | None], name: str) -> N:
    """Return a network with the values of a file, in evaluation mode."""
    state = read_state_dict(path)
    network = build(state)
    if network is None:
        raise CheckpointError(f"{path}: is not a checkpoint of {name} as facexlib uses it")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # keys or shapes that differ
        raise CheckpointError(
            f"{path}: is not a checkpoint of {name} ({one_line(error)})"
        ) from error
    return network.eval().requires_grad_(False)
