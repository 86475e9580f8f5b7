"""Imports without Python's collector of cyclic garbage, which they would make run for nothing."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """Context in which objects that stay for the whole run are made, such as those of torch.

    The collector does not run in it, and passes over all objects that exist at its end from then
    on: it would look through hundreds of thousands of them again and again, and free none. Garbage
    that exists is never freed, so this is for the start of a program only.

    Example:
        >>> import gc
        >>> with uncollected():
        ...     gc.isenabled()
        False
        >>> gc.isenabled()
        True
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
