"""The processes of a run: one, or those that torchrun has started on one or several machines.

Lightning Fabric handles torchrun, autocast and the averaging of gradients, and leaves the loop to
the caller, without a model class or a hub client.
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
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
        'training needs Lightning Fabric; run: pip install "upscale[train]"'
    ) from error

T = TypeVar("T")

_NAMES = inspect.signature(nn.parallel.DistributedDataParallel).parameters
_NO_BROADCAST: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
"""The argument has another name in torch 2.13 than in older versions."""


class Autocast(Precision):
    """Autocast of torch only: inputs and outputs stay in fp32, as 8-bit levels require."""

    def __init__(self, kind: str, dtype: torch.dtype) -> None:
        self._kind, self._dtype = kind, dtype

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context that networks compute in."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self._kind, self._dtype, enabled=enabled)

    def convert_output(self, data: Tensor) -> Tensor:
        """Convert the output of a network to fp32."""
        return data.float()


class Processes:
    """This process among those of the run, and its device.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; under torchrun each process uses the next
            GPU of its machine.
        precision: Precision of autocast.

    Attributes:
        fabric: Fabric that sets up networks.
        device: Device of this process.

    Raises:
        UsageError: The name of the device is unknown.
        DeviceError: The device is not available.
    """

    def __init__(self, device: str, precision: PrecisionName) -> None:
        logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        self.fabric = _fabric(pick_device(device), device, PRECISIONS[precision])
        self.fabric.launch()
        self.device = self.fabric.device
        # Flags and scores are exchanged without a GPU, which would need a synchronisation.
        self._cpu_group: Any = dist.new_group(backend="gloo") if self.world > 1 else None

    @property
    def rank(self) -> int:
        """Rank of this process, from 0."""
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and emits events."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.world > 1:
            dist.barrier(self._cpu_group)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, self._cpu_group)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        if self.world == 1:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, group=self._cpu_group)
        return bool(flags)

    def mean(self, predictions: Tensor) -> Tensor:
        """Return the mean over the batches of all processes, a scalar with gradients to all."""
        own = predictions.mean()
        return own if self.world == 1 else total(own) / self.world

    def synchronised(self, network: nn.Module) -> nn.Module:
        """Return the network with batch statistics over all processes."""
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
    """A sum over processes whose gradient is also summed over them."""

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
    """Return the sum of the tensors of all processes, with gradients to all."""
    return cast(Tensor, _Total.apply(tensor))


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all processes on a CPU, which torch lacks.

    It works only in training mode, with batches of the same size in all processes.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> SharedBatchNorm:
        """Return a layer with the parameters and buffers of another."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared

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


def _gradient_options(device: torch.device) -> dict[str, Any]:
    """Return options for gradients that are summed in the same order in every iteration.

    DDP otherwise sorts parameters into other buckets after its first iteration. A run that resumes
    would then sum in another order than one that was not interrupted. On a GPU, where kernels add
    in a varying order anyway, speed counts more.
    """
    if device.type != "cpu":
        return {}
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    return {"find_unused_parameters": True}


def _fabric(device: torch.device, name: str, dtype: torch.dtype) -> Fabric:
    precision = Autocast(device.type, dtype)
    if device.type == "xpu":
        raise DeviceError("training does not support Intel GPUs: use --device cpu")
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return Fabric(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment(), precision],
        )
    if ":" in name:
        raise DeviceError(f"{name}: under torchrun each process uses one GPU; use --device cuda")
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda" and local > torch.cuda.device_count():
        raise DeviceError(
            f"{local} processes for {torch.cuda.device_count()} GPUs; start fewer processes"
        )
    return Fabric(
        accelerator=device.type,
        devices=local,
        num_nodes=world // local,
        # Spectral norms take the same steps in all processes; a broadcast between two forward
        # passes would change tensors that the backward pass needs.
        strategy=DDPStrategy(**_NO_BROADCAST, **_gradient_options(device)),
        plugins=[TorchElasticEnvironment(), precision],
    )
