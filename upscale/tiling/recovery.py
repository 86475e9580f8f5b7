"""Recovery when memory runs out: the work that failed is repeated, with less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from upscale.errors import MemoryExhaustedError
from upscale.out_of_memory import is_out_of_memory

T = TypeVar("T")


def runs_out_of_memory(work: Callable[[], object]) -> bool:
    """Do a piece of work that can be repeated; return whether memory ran out.

    The caller frees memory afterwards, not in an exception handler: the exception would keep the
    tensors of the failed work alive.

    Example:
        >>> def work():
        ...     raise MemoryError
        >>> runs_out_of_memory(work)
        True
    """
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return True
    return False


def with_less_memory(work: Callable[[], T], *remedies: Callable[[], object]) -> T:
    """Return the result of `work`, which is repeated after each remedy while memory runs out.

    Args:
        work: Function that can be repeated after it has failed.
        remedies: Functions that free memory, or change what `work` needs, in the order of use.

    Raises:
        MemoryExhaustedError: Memory runs out even after the last remedy.

    Example:
        >>> sizes = [8, 4]
        >>> def work():
        ...     if sizes[0] > 4:
        ...         raise MemoryError
        ...     return sizes[0]
        >>> with_less_memory(work, lambda: sizes.pop(0))
        4
    """
    for remedy in remedies:
        try:
            return work()
        except MemoryExhaustedError:
            pass
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        remedy()
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            "out of memory: close other programs, or use a smaller size or --device cpu"
        ) from error
