"""The processes of a run: one, or those that torchrun has started on one or several machines.

Lightning Fabric, because it leaves the loop ours, follows torchrun, carries autocast and the
averaging of gradients, and has no model class or hub client.
"""

from __future__ import annotations

import inspect
import logging
import os
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from upscale.engine.choices import Precision as PrecisionName
from upscale.engine.device import PRECISIONS, pick_device
from upscale.errors import DependencyError, DeviceError

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.plugins.precision import Precision
    from lightning_fabric.strategies.ddp import DDPStrategy
except ImportError as error:
    raise DependencyError(
        'upscale_training needs Lightning Fabric; run: pip install "upscale[train]"'
    ) from error

T = TypeVar("T")

_NAMES = inspect.signature(nn.parallel.DistributedDataParallel).parameters
_NO_BROADCAST: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
"""The name is that of torch 2.13, or of older ones."""


class Autocast(Precision):
    """Autocast of torch alone: inputs stay in fp32, which 8-bit levels need, as do results."""

    def __init__(self, kind: str, dtype: torch.dtype) -> None:
        self._kind, self._dtype = kind, dtype

    def forward_context(self) -> AbstractContextManager[Any]:
        """What networks compute in."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self._kind, self._dtype, enabled=enabled)

    def convert_output(self, data: Tensor) -> Tensor:
        """Widen what a network gives."""
        return data.float()


class Processes:
    """This process among those of the run, and its device.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; under torchrun each process takes the
            next GPU of its machine.
        precision: of autocast.

    Attributes:
        fabric: what networks are set up with.
        device: of this process.

    Raises:
        UsageError, DeviceError: the device means nothing, or is not there.
    """

    def __init__(self, device: str, precision: PrecisionName) -> None:
        logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        self.fabric = _fabric(pick_device(device), device, PRECISIONS[precision])
        self.fabric.launch()
        self.device = self.fabric.device
        # Wishes and figures are told without a GPU, which would have to be waited for.
        self._talk: Any = dist.new_group(backend="gloo") if self.world > 1 else None

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier(self._talk)

    def gather(self, thing: T) -> list[T]:
        """What each process gives, in the order of their ranks, for all of them."""
        if self.world == 1:
            return [thing]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, thing, self._talk)
        return found

    def any(self, wish: bool) -> bool:
        """Whether any process wishes something."""
        if self.world == 1:
            return wish
        wishes = torch.tensor([int(wish)])
        dist.all_reduce(wishes, group=self._talk)
        return bool(wishes)

    def mean(self, predictions: Tensor) -> Tensor:
        """The mean over the batches of all processes, a scalar; the gradient goes to all."""
        own = predictions.mean()
        return own if self.world == 1 else total(own) / self.world

    def synchronised(self, network: nn.Module) -> nn.Module:
        """The network with batch statistics over all processes."""
        if self.world == 1:
            return network
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    parent.add_module(name, SharedBatchNorm.like(child))
        return network


class _Total(torch.autograd.Function):
    """A sum over processes whose gradient is summed over them, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def total(tensor: Tensor) -> Tensor:
    """The sum of what each process gives; all of their losses depend on it."""
    return cast(Tensor, _Total.apply(tensor))


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all processes on a CPU, for which torch has none.

    In upscale_training mode only; all processes have batches of the same size.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> SharedBatchNorm:
        """Take the place of another, with its parameters and buffers."""
        own = cls(norm.num_features, norm.eps, norm.momentum)
        own.load_state_dict(norm.state_dict())
        return own

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        x = input.float()
        world, size = dist.get_world_size(), x.numel() // x.shape[1]
        mean = total(x.mean((0, 2, 3))) / world
        centred = x - mean[:, None, None]
        variance = total(centred.square().mean((0, 2, 3))) / world
        self._track(mean.detach(), variance.detach() * (size * world / (size * world - 1)))
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


def _fabric(found: torch.device, asked: str, dtype: torch.dtype) -> Fabric:
    precision = Autocast(found.type, dtype)
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return Fabric(
            accelerator=found.type,
            devices=[found.index or 0] if found.type == "cuda" else 1,
            plugins=[LightningEnvironment(), precision],
        )
    if ":" in asked:
        raise DeviceError(f"{asked}: under torchrun each process takes a GPU: use --device cuda")
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if found.type == "cuda" and local > torch.cuda.device_count():
        raise DeviceError(f"{local} processes for {torch.cuda.device_count()} GPUs: start fewer")
    return Fabric(
        accelerator=found.type,
        devices=local,
        num_nodes=world // local,
        # Spectral norms take the same steps everywhere; a broadcast between two forward passes
        # would change what the backward pass needs.
        strategy=DDPStrategy(**_NO_BROADCAST),
        plugins=[TorchElasticEnvironment(), precision],
    )
