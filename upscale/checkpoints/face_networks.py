"""Networks that restore aligned faces, built by spandrel."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from upscale.checkpoints.community import import_spandrel
from upscale.checkpoints.state_dicts import read_state_dict
from upscale.errors import CheckpointError, DependencyError
from upscale.files.error_mapping import one_line

EXTRA = "face"
"""Extra that installs the packages of these networks."""

DEFAULT_FIDELITY = 0.5
"""Fidelity of CodeFormer, as its authors use it."""

Call = Callable[[nn.Module, Tensor, float], Tensor]
"""Runs a network of spandrel on values in -1..1, with a fidelity of 0..1."""

_CALLS: Mapping[str, Call] = {
    # The noise in the checkpoint instead of new noise: the same input gives the same face.
    "GFPGAN": lambda network, face, _: network(face, return_rgb=False, randomize_noise=False)[0],
    "RestoreFormer": lambda network, face, _: network(face)[0],
    "CodeFormer": lambda network, face, fidelity: network(face, weight=fidelity)[0],
}
"""How each architecture is called, by its name in spandrel.

The calls of spandrel itself leave out the conversion to -1..1 for two of them.
"""

_OF_CODEFORMER = "idx_pred_layer.1.weight"
"""Key that only CodeFormer has; its code is in a package of its own because of its licence."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceNetwork:
    """A network that restores faces, on the CPU, in evaluation mode.

    Attributes:
        module: Network that maps (N, 3, 512, 512) in 0..1 to the same shape and range.
        name: Architecture, for example "GFPGAN".
        has_fidelity: Whether a fidelity decides between the input and the restoration.
        supports_bfloat16: Whether bf16 gives usable results.
    """

    module: nn.Module
    name: str
    has_fidelity: bool
    supports_bfloat16: bool


class _FaceModule(nn.Module):
    """Convert faces between 0..1 and the range of the networks."""

    def __init__(self, network: nn.Module, call: Call, fidelity: float) -> None:
        super().__init__()
        self._network, self._call, self._fidelity = network, call, fidelity

    def forward(self, faces: Tensor) -> Tensor:
        """Restore faces of shape (N, 3, 512, 512) in 0..1."""
        return (self._call(self._network, faces * 2 - 1, self._fidelity) + 1) / 2


def check_packages(name: str) -> None:
    """Check that the packages of a network are installed, before it is downloaded.

    Args:
        name: Name of the network in the catalogue, or a file name.

    Raises:
        DependencyError: A package is missing or broken.
    """
    import_spandrel(EXTRA)
    if name == "codeformer":
        _extra_registry()


def load_face_network(path: Path, fidelity: float | None = None) -> FaceNetwork:
    """Load a checkpoint of GFPGAN, RestoreFormer or CodeFormer.

    Args:
        path: Checkpoint file.
        fidelity: Similarity of CodeFormer's result to its input, 0..1; None for 0.5.

    Raises:
        DependencyError: A package that the network needs is missing or broken.
        CheckpointError: The file is unusable, or another network.
    """
    state = read_state_dict(path)
    spandrel = import_spandrel(EXTRA)
    loader: Any = spandrel.ModelLoader(device="cpu")
    if _OF_CODEFORMER in state:
        loader = spandrel.ModelLoader(device="cpu", registry=_extra_registry())
    try:
        descriptor: Any = loader.load_from_state_dict(state)
    except Exception as error:  # spandrel raises many types of errors for unsupported state dicts
        raise CheckpointError(
            f"{path}: spandrel does not support this network ({one_line(error)})"
        ) from error
    name = str(descriptor.architecture.name)
    if name not in _CALLS:
        raise CheckpointError(
            f"{path}: is a network of {name}, which does not restore faces; "
            f"use one of {', '.join(_CALLS)}"
        )
    chosen = DEFAULT_FIDELITY if fidelity is None else fidelity
    return FaceNetwork(
        module=_FaceModule(descriptor.model.eval(), _CALLS[name], chosen).eval(),
        name=name,
        has_fidelity=name == "CodeFormer",
        supports_bfloat16=bool(descriptor.supports_bfloat16),
    )


def _extra_registry() -> Any:  # noqa: ANN401  # the package need not be installed
    try:
        return importlib.import_module("spandrel_extra_arches").EXTRA_REGISTRY
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        raise DependencyError(
            f"CodeFormer needs the package spandrel-extra-arches ({one_line(error)}); "
            f"run: pip install 'upscale[{EXTRA}]'"
        ) from error
