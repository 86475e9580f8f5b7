"""The registry of architectures: how each is recognised, built, initialised and rescaled.

An architecture is one `Architecture` object that is passed to `register`. The built-in ones are
the modules of `upscale.models.architectures`; other packages register theirs on import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from upscale.errors import CheckpointError
from upscale.models.initialisation import WithoutRandomValues
from upscale.models.network import Network, Spec

S = TypeVar("S", bound=Spec)
State = Mapping[str, Tensor]


class UnknownArchitectureError(CheckpointError):
    """The state dict does not belong to a registered architecture.

    Example:
        >>> from upscale.models import UnknownArchitectureError, detect
        >>> try:
        ...     detect({})
        ... except UnknownArchitectureError as error:
        ...     print(error)
        its tensors are not those of RCAN, Real-CUGAN, RealPLKSR, RRDBNet, SPAN or SRVGGNetCompact
    """


class UnfitStateError(CheckpointError):
    """The state dict belongs to an architecture, but tensors are missing or have a wrong shape.

    Example:
        >>> from upscale.models import SRVGGSpec, UnfitStateError, build, detect
        >>> state = build(SRVGGSpec(features=8, convolutions=1)).state_dict()
        >>> del state["body.2.bias"]
        >>> try:
        ...     detect(state)
        ... except UnfitStateError as error:
        ...     print(error)
        the tensor body.2.bias is missing (SRVGGNetCompact x4, 1 convolutions, 8 features)
    """


@dataclass(frozen=True, slots=True)
class Detected(Generic[S]):
    """The hyper-parameters of a network and its state dict under canonical keys.

    Attributes:
        spec: Hyper-parameters of the network.
        state: Tensors by canonical key.

    Example:
        >>> from upscale.models import SRVGGSpec, build, detect
        >>> detected = detect(build(SRVGGSpec(scale=2, features=8, convolutions=1)).state_dict())
        >>> detected.spec.describe(), len(detected.state)
        ('SRVGGNetCompact x2, 1 convolutions, 8 features', 8)
    """

    spec: S
    state: dict[str, Tensor]


def _keep(network: nn.Module) -> None:
    """Keep the default initialisation of torch."""


def _unchanged(state: State, _: Spec) -> State:
    """Return the canonical state dict, which other programs read."""
    return state


@dataclass(frozen=True, slots=True, eq=False)
class Architecture(Generic[S]):
    """Everything that this package knows about one kind of network.

    Attributes:
        name: Identifier in recipes, for example `rrdbnet`.
        title: Name in messages, for example `RRDBNet`.
        spec_type: Class of the hyper-parameters.
        build: Function from hyper-parameters to a network, usually the network's class. Layer
            groups for exact tiling are the network's own method `layer_groups`.
        recognise: Function from any state dict to the hyper-parameters and the tensors under
            canonical keys, or None if the state dict belongs to another architecture. `detect`
            then checks names and shapes against the network.
        initialise: Function that sets the weights of a new network before training.
        rescale: Function from a canonical state dict, its hyper-parameters and those of another
            scale to a state dict for that scale, or None if weights cannot be moved.
        publish: Function from a canonical state dict and its hyper-parameters to tensors under the
            keys and with the shapes that other programs, such as spandrel, take for granted.

    Example:
        >>> from upscale.models import SRVGGSpec, architecture_of
        >>> architecture = architecture_of(SRVGGSpec())
        >>> architecture.name, architecture.title
        ('srvgg', 'SRVGGNetCompact')
    """

    name: str
    title: str
    spec_type: type[S]
    build: Callable[[S], Network[S]]
    recognise: Callable[[State], Detected[S] | None]
    initialise: Callable[[nn.Module], None] = _keep
    rescale: Callable[[State, S, S], State] | None = None
    publish: Callable[[State, S], State] = _unchanged


_REGISTERED: dict[str, Architecture[Any]] = {}


def register(architecture: Architecture[Any]) -> None:
    """Add an architecture, so that its checkpoints are recognised everywhere.

    Raises:
        ValueError: The name is already taken.

    Example:
        >>> from upscale.models import SRVGGSpec, architecture_of, register, unregister
        >>> srvgg = architecture_of(SRVGGSpec())
        >>> unregister(srvgg.name)
        >>> register(srvgg)
    """
    if architecture.name in _REGISTERED:
        raise ValueError(f"an architecture named {architecture.name} is already registered")
    _REGISTERED[architecture.name] = architecture


def unregister(name: str) -> None:
    """Remove a registered architecture.

    Raises:
        KeyError: No architecture has this name.

    Example:
        >>> from upscale.models import unregister
        >>> unregister("no-such-architecture")
        Traceback (most recent call last):
        ...
        KeyError: 'no-such-architecture'
    """
    del _REGISTERED[name]


def architectures() -> tuple[Architecture[Any], ...]:
    """Return all registered architectures.

    Example:
        >>> from upscale.models import architectures
        >>> [architecture.name for architecture in architectures()]
        ['rcan', 'realcugan', 'realplksr', 'rrdbnet', 'span', 'srvgg']
    """
    return tuple(_REGISTERED.values())


def architecture_of(spec: S) -> Architecture[S]:
    """Return the architecture that hyper-parameters belong to.

    Raises:
        KeyError: No architecture uses this class of hyper-parameters.

    Example:
        >>> from upscale.models import RRDBSpec, architecture_of
        >>> architecture_of(RRDBSpec()).title
        'RRDBNet'
    """
    for architecture in _REGISTERED.values():
        if architecture.spec_type is type(spec):
            return architecture
    raise KeyError(f"no architecture is registered for {type(spec).__name__}")


def detect(state: State) -> Detected[Any]:
    """Find the architecture and the hyper-parameters that a state dict belongs to.

    Args:
        state: Tensors by key, in any key dialect of the field.

    Raises:
        UnknownArchitectureError: No registered architecture recognises the state dict.
        UnfitStateError: Tensors of the recognised network are missing or have a wrong shape.

    Example:
        >>> from upscale.models import RRDBSpec, build, detect
        >>> state = build(RRDBSpec(features=8, blocks=1, growth=4)).state_dict()
        >>> detect(state).spec.describe()
        'RRDBNet x4, 1 blocks, 8 features, growth 4'
    """
    mismatch: UnknownArchitectureError | None = None
    for architecture in _REGISTERED.values():
        try:
            detected = architecture.recognise(state)
            if detected is not None:
                _check_tensors(detected)
                return detected
        except UnknownArchitectureError as error:
            mismatch = mismatch or error
    *titles, last = (architecture.title for architecture in _REGISTERED.values())
    names = f"{', '.join(titles)} or {last}" if titles else last
    raise mismatch or UnknownArchitectureError(f"its tensors are not those of {names}")


def build(spec: S, state: State | None = None) -> Network[S]:
    """Build a network, and load weights if they are given.

    Args:
        spec: Hyper-parameters of the network.
        state: Canonical state dict, loaded in fp32; the network is then in evaluation mode. None
            for torch's default initialisation and training mode.

    Example:
        >>> import torch
        >>> from upscale.models import SRVGGSpec, build
        >>> network = build(SRVGGSpec(scale=3, features=8, convolutions=2))
        >>> network(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """
    architecture = architecture_of(spec)
    if state is None:
        return architecture.build(spec)
    with WithoutRandomValues():
        network = architecture.build(spec)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.eval()


def rescale(detected: Detected[Any], spec: Spec) -> State:
    """Return weights moved to the scale of `spec`, or unchanged where that is not possible.

    Args:
        detected: Network and weights to start from.
        spec: Hyper-parameters of the network to initialise, of the same architecture.

    Example:
        >>> from upscale.models import SRVGGSpec, build, detect, rescale
        >>> x4 = detect(build(SRVGGSpec(4, features=8, convolutions=1)).state_dict())
        >>> state = rescale(x4, SRVGGSpec(2, features=8, convolutions=1))
        >>> state["body.4.weight"].shape
        torch.Size([12, 8, 3, 3])
    """
    architecture = architecture_of(detected.spec)
    if architecture.rescale is None or not isinstance(spec, architecture.spec_type):
        return detected.state
    return architecture.rescale(detected.state, detected.spec, spec)


def convolution_weight(state: State, layer: str) -> Tensor:
    """Return the 4-axis weight of a convolution.

    Raises:
        UnfitStateError: The tensor is missing, empty, or has another number of axes.
    """
    weight = state.get(f"{layer}.weight")
    if weight is None:
        raise UnfitStateError(f"the tensor {layer}.weight is missing")
    if weight.ndim != 4:
        raise UnfitStateError(f"the tensor {layer}.weight has {weight.ndim} axes instead of 4")
    if weight.numel() == 0:
        raise UnfitStateError(f"the tensor {layer}.weight has the shape {tuple(weight.shape)}")
    return weight


def layer_numbers(state: State, pattern: str) -> set[int]:
    r"""Return the numbers of layers in the keys of a state dict.

    Args:
        state: Tensors by key.
        pattern: Regular expression for the start of a key, in which `(#)` stands for the number.

    Raises:
        UnknownArchitectureError: A number is not smaller than the number of tensors.

    Example:
        >>> sorted(layer_numbers({"body.0.weight": None, "body.2.weight": None,
        ...     "tail.weight": None}, r"body\.(#)\."))
        [0, 2]
    """
    compiled = re.compile(pattern.replace("(#)", "([0-9]+)"))
    numbers: set[int] = set()
    for key in state:
        match = compiled.match(key)
        if match is None:
            continue
        # The length first: Python refuses to convert thousands of digits.
        if len(match[1]) > len(str(len(state))) or int(match[1]) >= len(state):
            raise UnknownArchitectureError(
                f"the tensor {key[:60]} has a number too high for {len(state)} tensors"
            )
        numbers.add(int(match[1]))
    return numbers


def _check_tensors(detected: Detected[Any]) -> None:
    spec, state = detected.spec, detected.state
    with torch.device("meta"), WithoutRandomValues():
        network = build(spec)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    for key in shapes.keys() - state.keys():
        raise UnfitStateError(f"the tensor {key} is missing ({spec.describe()})")
    for key in state.keys() - shapes.keys():
        raise UnknownArchitectureError(f"the tensor {key} does not belong to {spec.describe()}")
    for key, shape in shapes.items():
        if state[key].shape != shape:
            actual, expected = tuple(state[key].shape), tuple(shape)
            raise UnfitStateError(f"the tensor {key} has shape {actual} instead of {expected}")
