"""Load the networks of a command, and show what that needs: downloads and remarks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from upscale.garbage import uncollected
from upscale.jobs.networks import make_networks, networks_of
from upscale.options import AUTO, EngineOptions, Options

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.jobs.auto import AutoUpscaler
    from upscale.jobs.faces import FaceFactory


class LoadingView(Protocol):
    """What shows the loading of networks, such as a terminal or a web page."""

    def notes(self, notes: Sequence[str], /) -> None:
        """Show remarks, for example on the choice of the device."""
        ...

    def download(self, name: str, /) -> AbstractContextManager[Callable[[int, int | None], None]]:
        """Show a download; its progress is called with the bytes done and their total."""
        ...


def face_factory(options: Options, view: LoadingView) -> FaceFactory | None:
    """Return the factory of what restores faces; None if no faces are looked for.

    Args:
        options: Options of the command.
        view: View of downloads and remarks.

    Raises:
        CheckpointError: There is no such network for faces.
    """
    if not options.faces.is_on:
        return None
    from upscale.checkpoints.face_networks import check_packages
    from upscale.jobs.face_models import find_face_models
    from upscale.jobs.faces import make_enhancer

    models = find_face_models(options.faces)
    view.notes([note for model in models.chosen for note in model.notes])

    @cache
    def make(device: str) -> FaceEnhancer:
        engine = replace(options.engine, device=device)
        if models.restorer is not None:
            check_packages(models.restorer.name)  # before a download is announced
        for model in models.chosen:
            if model.is_absent:
                with view.download(model.name) as progress:
                    model.path(progress)
        return make_enhancer(options.faces, engine, models)

    return make


def make_upscaler(
    engine: EngineOptions, view: LoadingView
) -> Upscaler | FusedUpscaler | AutoUpscaler:
    """Load the networks, after a visible download if they are not in the cache.

    Args:
        engine: Network, device, and how the network is computed.
        view: View of downloads and remarks.

    Raises:
        DeviceError: The device or precision is not available.
        CheckpointError: There is no such model, or its file cannot be used.
        DownloadError: The weights could not be downloaded.
    """
    from upscale.checkpoints import availability, catalog, known_name, locate

    _import_engine()
    from upscale.engine.device import device_notes

    view.notes(device_notes(engine.device, engine.precision))
    for model in () if engine.model == AUTO else networks_of(engine.model):
        name = known_name(model)
        if name is not None and availability(catalog()[name]) == "absent":
            with view.download(name) as progress:
                locate(catalog()[name], progress)
    return make_networks(engine)


def _import_engine() -> None:
    """Import the engine and torch, without looking for garbage if it is the first time."""
    name = "upscale.engine.upscaler"
    if name not in sys.modules:
        with uncollected():
            import_module(name)
