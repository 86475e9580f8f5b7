"""RealPLKSR compared with an implementation after the paper, and weights moved to other scales."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from upscale.models import (
    RealPLKSRSpec,
    SPANSpec,
    SRVGGSpec,
    UnfitStateError,
    UnknownArchitectureError,
    build,
    detect,
    rescale,
)

SPEC = RealPLKSRSpec(scale=2, features=8, blocks=2, kernel=7, partial=2)


def reference(state, image, blocks, scale):
    """Compute the network from its tensors, with torch's layer norm and a dense large kernel."""

    def convolve(name, x):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[2] // 2)

    x = convolve("feats.0", image)
    for number in range(1, blocks + 1):
        name, entry = f"feats.{number}", x
        norm = [state[f"{name}.layer_norm.{part}"] for part in ("weight", "bias")]
        x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), *norm, 1e-6).permute(0, 3, 1, 2)
        x = convolve(f"{name}.channel_mixer.0", x)
        x = convolve(f"{name}.channel_mixer.2", x * torch.tanh(F.softplus(x)))
        count = len(state[f"{name}.lk.conv.bias"])
        large, rest = x.split([count, x.shape[1] - count], 1)
        x = torch.cat([convolve(f"{name}.lk.conv", large), rest], 1)
        if f"{name}.attn.f.0.weight" in state:
            x = x * torch.sigmoid(convolve(f"{name}.attn.f.0", x))
        x = convolve(f"{name}.refine", x) + entry
    repeated = image.repeat_interleave(scale**2, 1)
    return F.pixel_shuffle(convolve(f"feats.{blocks + 2}", x) + repeated, scale)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 23)])
@pytest.mark.parametrize("attention", [True, False])
def test_the_output_is_that_of_the_paper(random_network, attention, size):
    spec = RealPLKSRSpec(3, features=8, blocks=2, kernel=7, partial=2, attention=attention)
    network = random_network(spec)
    image = torch.rand(1, 3, *size)
    expected = reference(network.state_dict(), image, 2, 3)
    assert (network(image) - expected).abs().max() < 1e-5 * max(expected.abs().max(), 1)


def test_the_usual_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = build(RealPLKSRSpec())
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_389_680


def test_other_variants_are_left_to_spandrel():
    state = build(SPEC).state_dict()
    grouped = {key: tensor for key, tensor in state.items() if "layer_norm" not in key}
    with pytest.raises(UnknownArchitectureError):
        detect({**grouped, "feats.1.norm.weight": torch.ones(8)})
    with pytest.raises(UnknownArchitectureError, match="to_img"):
        detect({**state, "to_img.init_pos": torch.zeros(1, 32, 1, 1)})


@pytest.mark.parametrize("key", ["feats.1.lk.conv.weight", "feats.4.weight"])
def test_a_tensor_of_another_shape_is_an_error_not_a_crash(key):
    state = build(SPEC).state_dict()
    for tensor in (torch.zeros(4), torch.zeros(0, 8, 3, 3), torch.zeros(5, 8, 4, 4)):
        with pytest.raises((UnknownArchitectureError, UnfitStateError)):
            detect({**state, key: tensor})


@pytest.mark.parametrize(
    ("settings", "reason"), [({"kernel": 4}, "kernel"), ({"partial": 65}, "partial")]
)
def test_impossible_hyper_parameters_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        RealPLKSRSpec(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda scale: RealPLKSRSpec(scale, features=8, blocks=1, kernel=3, partial=2),
        lambda scale: SRVGGSpec(scale, features=8, convolutions=1),
        lambda scale: SPANSpec(scale, features=8, normalised=False),
    ],
    ids=["realplksr", "srvgg", "span"],
)
@pytest.mark.parametrize(("old", "new"), [(4, 2), (2, 8), (4, 3), (3, 4)])
def test_weights_of_another_scale_give_the_same_image_at_that_scale(random_network, make, old, new):
    network = random_network(make(old))
    found = detect(network.state_dict())
    moved = build(make(new), rescale(found, make(new)))
    image = torch.rand(1, 3, 6, 5)
    expected = F.interpolate(network(image), scale_factor=new / old, mode="area")
    if old == 4 and new == 3:  # area interpolation of torch reads whole pixels only
        expected = F.avg_pool2d(network(image).repeat_interleave(3, 2).repeat_interleave(3, 3), 4)
    if old == 3:
        expected = F.avg_pool2d(network(image).repeat_interleave(4, 2).repeat_interleave(4, 3), 3)
    assert (moved(image) - expected).abs().max() < 1e-5
