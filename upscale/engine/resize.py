"""The last resize: from a network's own scale to the size that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upscale.engine.canvas import DEPTHS
from upscale.engine.memory import picture_array


def resize(picture: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Resize an (H, W, C) picture with an antialiased Lanczos filter (three lobes), in fp32.

    Every channel is filtered on its own and rounded once, so that any depth keeps its precision.
    """
    result = picture_array((height, width, picture.shape[2]), picture.dtype)
    highest = DEPTHS[picture.dtype]
    for channel in range(picture.shape[2]):
        plane = Image.fromarray(picture[:, :, channel].astype(np.float32), mode="F")
        resized = np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS))
        if picture.dtype == np.float32:
            result[:, :, channel] = resized
        else:
            result[:, :, channel] = np.clip(np.rint(resized), 0, highest)
    return result
