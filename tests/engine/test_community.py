"""A network of another architecture, from its checkpoint to the image, through spandrel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from upscale import Upscaler
from upscale.checkpoints import write_safetensors
from upscale.engine.upscaler import OVERLAP


@pytest.fixture(scope="module")
def architectures():
    try:
        from spandrel import architectures
        from spandrel.architectures import SPAN, SwinIR
    except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
        pytest.skip(f"spandrel does not work here: {error}")
    assert architectures
    return {"SPAN": SPAN.SPAN, "SwinIR": SwinIR.SwinIR}


@pytest.mark.parametrize(
    "name, options",
    [
        ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
        (
            "SwinIR",
            {
                "img_size": 16,
                "window_size": 8,
                "depths": [2, 2],
                "num_heads": [2, 2],
                "embed_dim": 12,
                "upscale": 2,
                "upsampler": "pixelshuffledirect",
                "resi_connection": "1conv",
            },
        ),
    ],
)
def test_a_community_network_upscales_images_of_any_size(architectures, tmp_path, name, options):
    torch.manual_seed(0)
    network = architectures[name](**options).eval()
    path = tmp_path / "foreign.safetensors"
    write_safetensors(network.state_dict(), path, {})
    image = np.random.default_rng(0).integers(0, 256, (75, 141, 3), np.uint8)
    result = Upscaler(path, device="cpu", tile=80).run(image)
    assert result.pixels.shape == (150, 282, 3)
    assert result.report.tiling == f"blended, overlap {OVERLAP} px"
    assert result.pixels.std() > 0
    assert Upscaler(path, device="cpu").upscale(image[:1, :1]).shape == (2, 2, 3)
