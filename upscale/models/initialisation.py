"""Building networks without random values, which are slow to draw, where weights follow at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import init
from torch.overrides import TorchFunctionMode

_RANDOM = (init.uniform_, init.normal_, init.kaiming_uniform_)
"""What torch's layers call, as far as it can be replaced."""


class WithoutRandomValues(TorchFunctionMode):
    """Context in which the weights of new layers stay uninitialised.

    Example:
        >>> import torch
        >>> before = torch.get_rng_state()
        >>> with WithoutRandomValues():
        ...     layer = torch.nn.Conv2d(3, 8, 3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 -- whatever the function returns
        """Call a function of torch, unless it fills a tensor with random values."""
        given = kwargs or {}
        if func in _RANDOM:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
