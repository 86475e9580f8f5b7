"""The base class of networks, and the hyper-parameters that all of them have."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from torch import nn

from upscale.models.layers import LayerMaker, torch_layer
from upscale.tiling.group import LayerGroup


class Spec(Protocol):
    """The hyper-parameters of a network, usually a frozen dataclass."""

    @property
    def in_channels(self) -> int:
        """Channels of the input image."""
        ...

    @property
    def out_channels(self) -> int:
        """Channels of the output image."""
        ...

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        ...

    def describe(self) -> str:
        """Return a one-line description."""
        ...


S = TypeVar("S", bound=Spec)


class Network(nn.Module, Generic[S]):
    """Base class of networks that upscale (N, in_channels, H, W) images in 0..1.

    The output is (N, out_channels, H * scale, W * scale) and is not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> from upscale.models import Network, SRVGGSpec, build
        >>> network = build(SRVGGSpec(scale=2, features=8, convolutions=1))
        >>> isinstance(network, Network), network.scale, network.unshuffle
        (True, 2, 1)
        >>> print(*(group.name for group in network.layer_groups()), sep=", ")
        layers 0-1, tail
    """

    def __init__(self, spec: S) -> None:
        super().__init__()
        self.spec = spec

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        return self.spec.scale

    @property
    def unshuffle(self) -> int:
        """Image pixels per pixel of the first feature map and axis; H and W are multiples."""
        return 1

    @property
    def margin(self) -> int:
        """Feature pixels at each side by which the layer groups need the image extended.

        Networks whose convolutions are not padded need it. The image is reflected there, and the
        result is dropped. `forward` extends the image by itself.
        """
        return 0

    @property
    def supports_exact_tiling(self) -> bool:
        """Whether the network provides layer groups."""
        return type(self).layer_groups is not Network.layer_groups

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Divide the network into layer groups, which exact tiling needs.

        The input of the groups is the image after pixel-unshuffle, (N, in_channels * unshuffle**2,
        h, w), with the margin. The last group returns the output image, so that its scale is
        `scale * unshuffle`.

        Args:
            fine: Whether each convolution becomes a group of its own. No pixel is then computed
                twice, at the price of more steps. Coarse groups hold several convolutions: fewer
                and larger steps, but some work is repeated in the halos.
            make: Function that turns a `Layer` into the function that computes it.

        Raises:
            NotImplementedError: The network only supports blended tiling.
        """
        raise NotImplementedError(f"{type(self).__name__} has no layer groups")
