"""Networks that spandrel builds, from the checkpoint to the image."""

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
        from spandrel.architectures import RCAN, SPAN, RealCUGAN, SwinIR
    except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
        pytest.skip(f"spandrel does not work here: {error}")
    assert architectures
    return {
        "RCAN": RCAN.RCAN,
        "SPAN": SPAN.SPAN,
        "SwinIR": SwinIR.SwinIR,
        "UpCunet2x": RealCUGAN.UpCunet2x,
        "UpCunet3x": RealCUGAN.UpCunet3x,
        "UpCunet4x": RealCUGAN.UpCunet4x,
    }


@pytest.mark.parametrize(
    "name, options, tiling",
    [
        (
            "SPAN",
            {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2},
            "exact",
        ),
        (
            "RCAN",
            {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 8, "reduction": 4},
            "exact",
        ),
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
            f"blended, overlap {OVERLAP} px",
        ),
    ],
)
def test_a_community_network_upscales_images_of_any_size(
    architectures, tmp_path, name, options, tiling
):
    torch.manual_seed(0)
    network = architectures[name](**options).eval()
    path = tmp_path / "foreign.safetensors"
    write_safetensors(network.state_dict(), path, {})
    image = np.random.default_rng(0).integers(0, 256, (75, 141, 3), np.uint8)
    result = Upscaler(path, device="cpu", tile=80).run(image)
    assert result.pixels.shape == (150, 282, 3)
    assert result.report.tiling == tiling
    assert result.pixels.std() > 0
    assert Upscaler(path, device="cpu").upscale(image[:1, :1]).shape == (2, 2, 3)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("norm", [True, False])
def test_rcan_gives_the_output_of_spandrel(architectures, tmp_path, scale, norm):
    torch.manual_seed(scale)
    network = architectures["RCAN"](
        scale=scale, n_resgroups=2, n_resblocks=3, n_feats=8, reduction=4, norm=norm
    ).eval()
    path = tmp_path / "foreign.safetensors"
    write_safetensors(network.state_dict(), path, {})
    image = np.random.default_rng(0).random((75, 61, 3), np.float32)
    with torch.inference_mode():
        # spandrel's network changes its input.
        expected = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0]
    result = Upscaler(path, device="cpu", tile=32, keep_colour=False).upscale(image)
    assert np.abs(result - expected.clamp(0, 1).permute(1, 2, 0).numpy()).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("pro", [True, False])
def test_realcugan_gives_the_output_of_spandrel(architectures, tmp_path, scale, pro):
    torch.manual_seed(scale)
    network = architectures[f"UpCunet{scale}x"](pro=pro).eval()
    path = tmp_path / "foreign.safetensors"
    write_safetensors(network.state_dict(), path, {})
    image = np.random.default_rng(0).random((75, 61, 3), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0]
    result = Upscaler(path, device="cpu", tile=32, keep_colour=False).run(image)
    assert result.report.tiling == "exact"
    assert np.abs(result.pixels - expected.clamp(0, 1).permute(1, 2, 0).numpy()).max() < 1e-5


def test_realcugan_for_x3_is_left_to_spandrel(architectures, tmp_path):
    path = tmp_path / "foreign.safetensors"
    write_safetensors(architectures["UpCunet3x"]().state_dict(), path, {})
    image = np.random.default_rng(0).random((33, 34, 3), np.float32)
    result = Upscaler(path, device="cpu").run(image)
    assert (result.pixels.shape, result.report.tiling) == (
        (99, 102, 3),
        f"blended, overlap {OVERLAP} px",
    )
