from __future__ import annotations

import gc
import weakref

import pytest

from upscale.garbage import uncollected


class Ring:
    """An object that refers to itself, which only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def thaw():
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thaw")
def test_garbage_is_collected_again_after_an_error():
    with pytest.raises(ImportError), uncollected():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    ring = weakref.ref(Ring())
    gc.collect()
    assert ring() is None


@pytest.mark.usefixtures("thaw")
def test_the_collector_passes_over_what_was_made():
    with uncollected():
        ring = weakref.ref(Ring())
    gc.collect()
    assert ring() is not None


@pytest.mark.usefixtures("thaw")
def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
