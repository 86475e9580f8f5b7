"""Networks of the package spandrel, trained as plain modules.

Their exported files have the keys of spandrel, so that `upscale -n` and other programs load them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from upscale.checkpoints.community import CommunityModel, describe, import_spandrel
from upscale.engine.loading import PaddedNetwork
from upscale.errors import TrainingError
from upscale.files.error_mapping import one_line
from upscale.models import Network

_SCALES = ("upscale", "up_scale", "scale", "upscale_factor", "upscaling_factor")
"""Names of the parameter that networks of spandrel take their scale from."""

_PREFIX = "padded._network."
"""What this class puts before the keys of spandrel."""

_TOLERANCE = 1e-4
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class SpandrelSpec:
    """The hyper-parameters of a network of spandrel.

    Attributes:
        kind: Name of its class in spandrel, for example `SwinIR`.
        scale: Output pixels per image pixel and axis.
        parameters: Arguments of the class besides its scale.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.

    Example:
        >>> SpandrelSpec("SwinIR", 2).describe()
        'SwinIR x2 of spandrel'
    """

    kind: str
    scale: int = 4
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    in_channels: int = 3
    out_channels: int = 3

    def describe(self) -> str:
        """Return a one-line description."""
        return f"{self.kind} x{self.scale} of spandrel"


class SpandrelNetwork(Network[SpandrelSpec]):
    """A network of spandrel with random weights, whose tensors have the keys of spandrel.

    Images of any size are continued by reflection where the network needs it. Tiles are blended.

    Args:
        spec: Hyper-parameters of the network.

    Raises:
        DependencyError: The package spandrel is missing or broken.
        TrainingError: Spandrel has no such network or parameter, or reads an exported file as
            another network.
    """

    def __init__(self, spec: SpandrelSpec) -> None:
        super().__init__(spec)
        module = _make(spec)
        self.padded = PaddedNetwork(replace(_reloaded(module, spec), module=module))
        self._register_state_dict_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @property
    def blocks(self) -> list[nn.Module]:
        """The parts of its largest list of layers."""
        kinds = (nn.Sequential, nn.ModuleList)
        lists = [each for each in self.modules() if isinstance(each, kinds) and len(each) > 1]
        return list(max(lists, key=_size, default=nn.ModuleList()))

    def forward(self, image: Tensor) -> Tensor:
        """Upscale (N, 3, H, W) to (N, 3, H * scale, W * scale)."""
        return self.padded(image)


def _without_prefix(
    module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object
) -> None:
    for key in list(state):
        state[prefix + key.removeprefix(prefix + _PREFIX)] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for key in list(state):
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _make(spec: SpandrelSpec) -> nn.Module:
    """Return a network with random weights."""
    classes = dict(_classes())
    if spec.kind not in classes:
        raise TrainingError(f"network.kind: {spec.kind}: spandrel has {', '.join(sorted(classes))}")
    network = classes[spec.kind]
    names = list(inspect.signature(network).parameters)
    unknown = [name for name in spec.parameters if name not in names]
    if unknown:
        raise TrainingError(
            f"network.parameters: {spec.kind} has no {', '.join(unknown)}, but {', '.join(names)}"
        )
    scale = {name: spec.scale for name in _SCALES if name in names}
    try:
        return network(**(scale | dict(spec.parameters)))
    except Exception as error:  # whatever wrong arguments lead to
        raise TrainingError(
            f"network.parameters: {spec.kind} cannot be built with them ({one_line(error)})"
        ) from error


def _classes() -> Iterator[tuple[str, type[nn.Module]]]:
    """Yield the networks of spandrel that map images to images, by the names of their classes."""
    for support in import_spandrel().MAIN_REGISTRY:
        module = importlib.import_module(type(support.architecture).__module__)
        for name in module.__all__:
            found = getattr(module, name)
            if isinstance(found, type) and issubclass(found, nn.Module):
                yield name, found


@torch.no_grad()
def _reloaded(module: nn.Module, spec: SpandrelSpec) -> CommunityModel:
    """Return the network that spandrel makes of an exported file, which must be the same."""
    spandrel = import_spandrel()
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    try:
        loaded: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except Exception as error:  # spandrel raises many types of errors for unsupported state dicts
        raise TrainingError(
            f"network.parameters: spandrel could not read the exported file ({one_line(error)}); "
            "use its default parameters where possible"
        ) from error
    if not isinstance(loaded, spandrel.ImageModelDescriptor):
        raise TrainingError(f"network.kind: {spec.kind} does not map one image to one image")
    found = describe(loaded)
    if (found.scale, found.in_channels, found.out_channels) != (spec.scale, 3, 3):
        raise TrainingError(
            f"network.scale: spandrel would read the exported file as x{found.scale} from "
            f"{found.in_channels} to {found.out_channels} channels, not as x{spec.scale} of RGB; "
            "change scale or parameters"
        )
    _check_same(module, found, spec)
    return found


def _check_same(module: nn.Module, found: CommunityModel, spec: SpandrelSpec) -> None:
    """Compare the results of a network and of what spandrel makes of its weights."""
    was_training = module.training
    side = -(-max(16, found.minimum) // found.multiple_of) * found.multiple_of
    image = torch.linspace(0, 1, 3 * side * side).view(1, 3, side, side)
    try:
        expected, result = module.eval()(image.clone()), found.module(image.clone())
    except Exception as error:  # whatever wrong parameters lead to
        raise TrainingError(
            f"network.parameters: {spec.kind} cannot compute an image with them ({one_line(error)})"
        ) from error
    module.train(was_training)
    if result.shape != expected.shape or (result - expected).abs().max() > _TOLERANCE:
        raise TrainingError(
            f"network.parameters: spandrel would read the exported file as another {spec.kind}, "
            "because tensors do not tell all parameters; use its default ones"
        )
