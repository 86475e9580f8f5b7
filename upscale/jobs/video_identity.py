"""The settings that a resumed run of a video must share with the run before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from upscale.jobs.faces import face_identity, find_face_model
from upscale.jobs.model_info import model_digest
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.jobs.auto import AutoUpscaler


def video_identity(
    options: Options, upscalers: Sequence[Upscaler | FusedUpscaler | AutoUpscaler]
) -> dict[str, str]:
    """Return what determines the frames beside source and encoder, by name; see `run_video`.

    Args:
        options: Options of the command.
        upscalers: Networks, one for each device.

    Raises:
        CheckpointError: No such model exists.
    """
    engine = options.engine
    identity = {
        "model": model_digest(engine.model, engine.denoise),
        "precision": _joined(upscaler.precision_name for upscaler in upscalers),
        "kind of device": _joined(upscaler.device_name.partition(":")[0] for upscaler in upscalers),
        "kernels": _joined(upscaler.available_kernels for upscaler in upscalers),
        "options of the network": f"tta {engine.tta}, denoise {engine.denoise}",
    }
    if engine.fidelity is not None:
        identity["fidelity"] = str(engine.fidelity)
    if options.faces.is_on:
        identity["faces"] = face_identity(options.faces, find_face_model(options.faces.face_model))
    return identity


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
