"""The network that is exported, with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from upscale.checkpoints import CatalogEntry, ResolvedModel, read_metadata, resolve
from upscale.errors import CheckpointError
from upscale.models import Network, UnknownArchitectureError, architecture_of, build, detect


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A network that is exported.

    Attributes:
        network: Network on the CPU, in evaluation mode, in float32.
        metadata: Facts about the network, such as its name, licence, recipe and scores.
    """

    network: Network[Any]
    metadata: Mapping[str, str]

    def published(self) -> Mapping[str, Tensor]:
        """Return the tensors under the keys and with the shapes that other programs read."""
        network = self.network
        return architecture_of(network.spec).publish(network.state_dict(), network.spec)


def load_source(name: str) -> Source:
    """Load a network for export.

    Args:
        name: Name of a network, or its file.

    Raises:
        CheckpointError: The file is unusable, or of an architecture that is not built in.
    """
    resolved = resolve(name)
    try:
        detected = detect(resolved.state())
    except UnknownArchitectureError as error:
        raise CheckpointError(
            f"{name}: only built-in architectures can be exported; {error}"
        ) from error
    network = build(detected.spec, detected.state)
    return Source(network, _metadata(resolved, network))


def _metadata(resolved: ResolvedModel, network: Network[Any]) -> dict[str, str]:
    facts = {
        "name": resolved.name.removesuffix(resolved.path.suffix),
        "architecture": network.spec.describe(),
        "scale": str(network.scale),
    }
    is_blend = resolved.partner is not None
    own = {} if is_blend or resolved.path.suffix != ".safetensors" else read_metadata(resolved.path)
    listed = {} if resolved.entry is None else _listed(resolved.entry)
    if is_blend:
        listed["blend"] = f"{resolved.denoise:g}, the rest is its denoise partner"
    return own | listed | resolved.attribution | facts


def _listed(entry: CatalogEntry) -> dict[str, str]:
    """Return what the catalogue says about a network."""
    return {"source": entry.source, "purpose": entry.purpose}
