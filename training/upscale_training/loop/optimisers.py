"""Optimisers by their names in recipes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from upscale.errors import DependencyError
from upscale_training.recipe import OptimiserSettings

_TORCH = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_OTHERS = {"schedule-free": "ScheduleFreeAdamW", "adan": "Adan"}
"""Names in the package pytorch-optimizer."""


def make_optimiser(
    parameters: Iterable[nn.Parameter], settings: OptimiserSettings
) -> torch.optim.Optimizer:
    """Return an optimiser.

    Args:
        parameters: Parameters to optimise.
        settings: Kind and settings.

    Raises:
        DependencyError: The package of the optimiser is not installed.

    Example:
        >>> make_optimiser([nn.Parameter(torch.zeros(1))], OptimiserSettings(1e-4)).defaults["lr"]
        0.0001
    """
    kind: Any = _TORCH.get(settings.kind) or _find(settings.kind)
    own = {"weight_decouple": True} if settings.kind == "adan" else {}
    return kind(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        **own,
    )


def check_optimiser(settings: OptimiserSettings) -> None:
    """Check that the package of an optimiser is installed.

    Raises:
        DependencyError: It is not.
    """
    if settings.kind in _OTHERS:
        _find(settings.kind)


def _find(kind: str) -> Any:  # noqa: ANN401
    try:
        return getattr(importlib.import_module("pytorch_optimizer"), _OTHERS[kind])
    except ImportError as error:
        raise DependencyError(
            f"the optimiser {kind} needs the package pytorch-optimizer ({error}); run: "
            "pip install 'upscale[optimisers]'"
        ) from error
