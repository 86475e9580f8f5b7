"""SPAN compared with an implementation after the paper, with its sums of convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscale.models import SPANSpec, UnfitStateError, UnknownArchitectureError, build, detect

SIZES = [(1, 1), (1, 7), (5, 3), (17, 23)]


class Sum(nn.Module):
    """A 1x1 convolution plus a chain 1x1, 3x3, 1x1, as it is trained (figure 4 of the paper)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, 2 * inputs, 1),
            nn.Conv2d(2 * inputs, 2 * outputs, 3),
            nn.Conv2d(2 * outputs, outputs, 1),
        )
        self.eval_conv = nn.Conv2d(inputs, outputs, 3, padding=1)  # out of date in checkpoints

    def forward(self, x):
        """Add both branches; the bias of the first layer acts as if x had no border."""
        first, middle, last = self.conv
        constant = middle(first.bias[:, None, None].expand(-1, 3, 3)[None])
        spread = F.conv2d(F.conv2d(x, first.weight), middle.weight, padding=1)
        return self.sk(x) + last(spread + constant)


class Block(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (Sum(features, features) for _ in range(3))

    def forward(self, x):
        start = F.silu(self.c1_r(x))
        end = self.c3_r(F.silu(self.c2_r(start)))
        return (end + x) * (torch.sigmoid(end) - 0.5), start


class Reference(nn.Module):
    def __init__(self, features, scale, *, normalised):
        super().__init__()
        self.normalised = normalised
        if not normalised:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1, self.conv_2 = Sum(3, features), Sum(features, features)
        self.block_1, self.block_2, self.block_3 = (Block(features) for _ in range(3))
        self.block_4, self.block_5, self.block_6 = (Block(features) for _ in range(3))
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(features, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )

    def forward(self, x):
        if self.normalised:
            x = (x - torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)) * 255
        first = x = self.conv_1(x)
        early = x = self.block_1(x)[0]
        for block in (self.block_2, self.block_3, self.block_4, self.block_5):
            x = block(x)[0]
        x, late = self.block_6(x)
        return self.upsampler(self.conv_cat(torch.cat([first, self.conv_2(x), early, late], 1)))


def reference(features=12, scale=4, *, normalised=True):
    torch.manual_seed(features + scale)
    return Reference(features, scale, normalised=normalised).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scale", "normalised"), [(4, True), (2, False), (1, True)])
def test_a_checkpoint_gives_the_papers_output(size, scale, normalised):
    theirs = reference(scale=scale, normalised=normalised)
    detected = detect(theirs.state_dict())
    assert detected.spec == SPANSpec(scale, features=12, normalised=normalised)
    ours = build(detected.spec, detected.state)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, output = theirs(image), ours(image)
    assert output.shape == expected.shape == (1, 3, scale * size[0], scale * size[1])
    assert (output - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


def test_a_checkpoint_of_single_convolutions_gives_the_same_network():
    folded = detect(reference().state_dict()).state
    single = {
        key.replace(part, f"{part}.eval_conv")
        if (part := key.rsplit(".", 1)[0]).endswith(("_r", "conv_1", "conv_2"))
        else key: tensor
        for key, tensor in folded.items()
    }
    assert "block_3.c2_r.eval_conv.weight" in single and "conv_1.eval_conv.bias" in single
    again = detect(single).state
    assert again.keys() == folded.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in folded.items())


def test_checkpoints_that_do_not_fit_are_refused():
    state = reference().state_dict()
    without = {key: tensor for key, tensor in state.items() if key != "block_2.c1_r.conv.1.weight"}
    with pytest.raises(UnfitStateError, match=r"block_2\.c1_r\.conv\.1\.weight is missing"):
        detect(without)
    with pytest.raises(UnknownArchitectureError, match="upsampler"):
        detect({**state, "upsampler.0.weight": torch.zeros(10, 12, 3, 3)})
    with pytest.raises(UnknownArchitectureError, match=r"block_7\.c1_r\.weight does not belong"):
        detect({**state, "block_7.c1_r.weight": torch.zeros(12, 12, 3, 3)})
