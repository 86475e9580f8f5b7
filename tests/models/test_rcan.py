"""RCAN compared with an implementation after the paper, in both key dialects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from upscale.models import RCANSpec, UnfitStateError, UnknownArchitectureError, build, detect
from upscale.models import rescale as rescaled

SIZES = [(1, 1), (1, 7), (17, 23), (48, 48)]
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])


class Attention(nn.Module):
    """Section 3.3, equations 9 to 11: squeeze over H x W, two layers, sigmoid, scale."""

    def __init__(self, features, reduction):
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, features // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(features // reduction, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        height, width = x.shape[2:]
        return x * self.conv_du(x.sum((2, 3), keepdim=True) / (height * width))


class Residual(nn.Module):
    """Layers and a skip connection: a block, or a group of them (equations 5 to 8)."""

    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x) + x


class Shift(nn.Conv2d):
    """The mean of DIV2K as a 1x1 convolution, as the authors' checkpoints store it."""

    def __init__(self, sign, white):
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3)[:, :, None, None]
        self.bias.data = sign * white * MEAN


def three(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Reference(nn.Module):
    """Figure 2: head, residual groups with the long skip connection, tail; keys of the authors."""

    def __init__(self, scale, features, groups, blocks, reduction, white=255, mean=True):
        super().__init__()
        self.white = white
        if mean:
            self.sub_mean, self.add_mean = Shift(-1, white), Shift(1, white)
        else:
            self.sub_mean = self.add_mean = nn.Identity()
        self.head = nn.Sequential(three(3, features))
        self.body = nn.Sequential(
            *(
                Residual(
                    *(
                        Residual(
                            three(features, features),
                            nn.ReLU(),
                            three(features, features),
                            Attention(features, reduction),
                        )
                        for _ in range(blocks)
                    ),
                    three(features, features),
                )
                for _ in range(groups)
            ),
            three(features, features),
        )
        up = []
        for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
            up += [three(features, features * factor**2), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(nn.Sequential(*up), three(features, 3))

    def forward(self, x):
        first = self.head(self.sub_mean(x * self.white))
        return self.add_mean(self.tail(self.body(first) + first)) / self.white


def reference(scale=4, features=8, groups=2, blocks=3, reduction=4, **options):
    torch.manual_seed(scale + features)
    return Reference(scale, features, groups, blocks, reduction, **options).eval()


def basicsr_state(theirs):
    """Return the state dict under the keys of BasicSR, which keeps no mean."""
    groups, blocks = len(theirs.body) - 1, len(theirs.body[0].body) - 1

    def rename(key):
        top, *rest = key.split(".")
        if top in ("head", "tail"):
            name = "conv_first" if top == "head" else "upsample" if rest[0] == "0" else "conv_last"
            return ".".join([name, *rest[1:]])
        if rest[0] == str(groups):
            return f"conv_after_body.{rest[1]}"
        if rest[2] == str(blocks):
            return f"body.{rest[0]}.conv.{rest[3]}"
        layer = rest[4]
        end = [layer, rest[-1]] if layer != "3" else [
            "3", "attention", {"0": "1", "2": "3"}[rest[6]], rest[-1]]  # fmt: skip
        return ".".join(["body", rest[0], "residual_group", rest[2], "rcab", *end])

    state = theirs.state_dict()
    return {rename(key): tensor for key, tensor in state.items() if "mean" not in key}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dialect", ["authors", "basicsr"])
def test_a_checkpoint_gives_the_papers_output(size, scale, dialect):
    theirs = reference(scale)
    state = theirs.state_dict() if dialect == "authors" else basicsr_state(theirs)
    assert ("head.0.weight" in state) == (dialect == "authors")
    detected = detect(state)
    assert detected.spec == RCANSpec(scale, features=8, groups=2, blocks=3, reduction=4)
    ours = build(detected.spec, detected.state)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, output = theirs(image), ours(image)
    assert output.shape == expected.shape == (1, 3, scale * size[0], scale * size[1])
    assert (output - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({"white": 1}, {"value_range": 1}),
        ({"white": 1, "mean": False}, {"value_range": 1, "normalised": False}),
    ],
)
def test_other_values_of_white_are_read_from_the_mean(options, spec):
    theirs = reference(2, **options)
    detected = detect(theirs.state_dict())
    assert detected.spec == RCANSpec(2, features=8, groups=2, blocks=3, reduction=4, **spec)
    image = torch.rand(1, 3, 9, 8)
    output = build(detected.spec, detected.state)(image)
    assert (output - theirs(image)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("scale", "parameters"),
    [(2, 15_444_643), (3, 15_629_283), (4, 15_592_355), (8, 15_740_067)],
)
def test_the_published_network_has_the_published_size(scale, parameters):
    with torch.device("meta"):
        network = build(RCANSpec(scale))
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters


def test_a_flat_image_passes_the_attention_as_one_pixel_does():
    """Away from the border, a constant image has the value of its mean."""
    theirs = Attention(8, 4)
    ours = build(RCANSpec(1, features=8, groups=1, blocks=1, reduction=4)).body[0].body[0]
    ours.body[3].load_state_dict(theirs.state_dict())
    flat = torch.rand(1, 8, 1, 1).expand(1, 8, 5, 6)
    means = flat.mean((2, 3), keepdim=True)
    assert torch.allclose(ours.attend(torch.zeros_like(flat), flat, means), theirs(flat))


def test_half_precision_files_keep_the_exact_mean():
    state = {key: value.half() for key, value in reference().state_dict().items()}
    detected = detect(state)
    assert torch.equal(detected.state["sub_mean.bias"], -255 * MEAN)


def test_checkpoints_that_do_not_fit_are_refused():
    state = reference().state_dict()
    with pytest.raises(UnfitStateError, match=r"constant mean"):
        detect({**state, "sub_mean.bias": torch.tensor([1.0, 2, 3])})
    without = {key: tensor for key, tensor in state.items() if key != "add_mean.bias"}
    with pytest.raises(UnfitStateError, match=r"constant mean"):
        detect(without)
    without = {key: tensor for key, tensor in state.items() if key != "body.1.body.2.body.2.bias"}
    with pytest.raises(UnfitStateError, match=r"body\.1\.body\.2\.body\.2\.bias is missing"):
        detect(without)
    with pytest.raises(UnknownArchitectureError, match="pixel-shuffles"):
        detect({**state, "tail.0.4.weight": torch.zeros(72, 8, 3, 3)})
    with pytest.raises(UnknownArchitectureError, match="groups and blocks"):
        detect({**state, **{f"body.{n}.weight": torch.zeros(1) for n in range(2, 80)}})
    grey = {**state, "head.0.weight": torch.zeros(8, 1, 3, 3)}
    with pytest.raises(UnfitStateError, match="channels of its image"):
        detect(grey)


@pytest.mark.parametrize(
    "options", [{"scale": 5}, {"reduction": 65}, {"in_channels": 1, "out_channels": 1}]
)
def test_impossible_hyper_parameters_are_refused(options):
    with pytest.raises(ValueError):
        RCANSpec(**options)


def test_another_scale_starts_with_everything_but_the_tail():
    old = detect(reference(2).state_dict())
    new = RCANSpec(4, features=8, groups=2, blocks=3, reduction=4)
    state = rescaled(old, new)
    assert build(new, state).scale == 4
    for key, tensor in old.state.items():
        if not key.startswith("tail."):
            assert torch.equal(state[key], tensor)
    assert rescaled(old, old.spec) is old.state


def test_another_value_of_white_gives_the_same_image():
    theirs = reference(2, white=1)
    old = detect(theirs.state_dict())
    new = RCANSpec(2, features=8, groups=2, blocks=3, reduction=4)
    image = torch.rand(1, 3, 9, 8)
    output = build(new, rescaled(old, new))(image)
    assert (output - theirs(image)).abs().max() < 1e-5
