"""Random states of Python, NumPy and torch."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_all(*seed: int) -> None:
    """Seed all random number generators of this process independently."""
    words = np.random.SeedSequence(seed).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def random_state() -> dict[str, Any]:
    """Return all random states of this process as plain values and tensors."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (legacy[0], legacy[1].tolist(), *legacy[2:]),
        "python": (version, numbers, gauss),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore states that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    random.setstate(state["python"])
