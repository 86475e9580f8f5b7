"""`upscale models fuse`, and `-n` with its file: images, animations and videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import upscale
from tests.video.clips import make_kind
from upscale.checkpoints import write_safetensors
from upscale.models import SRVGGSpec

SPEC = SRVGGSpec(2, features=8, convolutions=1)


@pytest.fixture
def call(real_call, random_network):
    """The command line, in a folder with two networks."""
    for seed, name in enumerate("rs"):
        metadata = {"licence": f"licence of {name}"}
        write_safetensors(
            random_network(SPEC, seed).state_dict(), Path(f"{name}.safetensors"), metadata
        )
    return real_call


def write_image(level, name="a.png"):
    noise = np.random.default_rng(0).integers(-5, 6, (16, 24, 3))
    Image.fromarray((level + noise).astype(np.uint8)).save(name)


def pixels(name):
    return np.asarray(Image.open(name)).astype(int)


def fuse(call, *options):
    ended = call("models", "fuse", "r.safetensors", "s.safetensors", "-o", "f.json", *options)
    assert (ended.code, ended.out) == (0, "f.json\n"), ended.err


@pytest.mark.parametrize("level", [40, 180])
def test_an_image_is_mixed_if_it_is_dark(call, level):
    fuse(call, "--alpha", "0.25", "--gamma", "90")
    write_image(level)
    for name in ("r.safetensors", "s.safetensors", "f.json"):
        ended = call("a.png", "-n", name, "-o", f"{name}.png", "--keep-colour", "off")
        assert ended.code == 0, ended.err
    first, second = pixels("r.safetensors.png"), pixels("s.safetensors.png")
    assert np.abs(first - second).max() > 10
    expected = 0.25 * first + 0.75 * second if level == 40 else first
    assert np.abs(pixels("f.json.png") - expected).max() <= 1
    used = json.loads(call("a.png", "-n", "f.json", "-o", "b.png", "--json").out.splitlines()[0])
    assert used["model"] == "r.safetensors" + (" + s.safetensors" if level == 40 else "")


def test_the_library_takes_the_file(call):
    fuse(call, "--gamma", "90")
    write_image(40)
    upscaler = upscale.Upscaler("f.json", device="cpu", keep_colour=False)
    result = upscaler.run(pixels("a.png").astype(np.uint8))
    assert result.report.model == "r.safetensors + s.safetensors"
    call("a.png", "-n", "f.json", "-o", "b.png", "--keep-colour", "off")
    assert np.array_equal(result.pixels, pixels("b.png"))


def test_frames_of_an_animation_do_not_jump_at_gamma(call):
    levels = [86, 88, 89, 91, 92, 94]
    fuse(call, "--alpha", "0", "--gamma", "90")
    frames = [Image.new("RGB", (24, 16), (level,) * 3) for level in levels]
    frames[0].save("moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    for name in ("r.safetensors", "s.safetensors", "f.json"):
        options = ("--format", "png", "--lossless", "--keep-colour", "off")
        ended = call("moving.webp", "-n", name, "-o", f"{name}.png", *options[2:])
        assert ended.code == 0, ended.err

    def means(name):
        found = Image.open(f"{name}.png")
        values = []
        for number in range(found.n_frames):
            found.seek(number)
            values.append(np.asarray(found.convert("RGB"), float).mean())
        return np.array(values)

    first, second, mixed = (means(name) for name in ("r.safetensors", "s.safetensors", "f.json"))
    assert len(mixed) == len(levels)
    weights = (mixed - first) / (second - first)
    assert np.allclose(weights, [(100 - level) / 20 for level in levels], atol=0.05)


def test_a_video_is_upscaled(call, tmp_path):
    fuse(call, "--gamma", "200")
    make_kind("cfr", tmp_path).rename(tmp_path / "a.mp4")
    ended = call("video", "a.mp4", "b.mp4", "-n", "f.json", "--scale", "2", "--json")
    assert ended.code == 0, ended.err
    assert (tmp_path / "b.mp4").stat().st_size > 0


def test_info_names_both_networks_and_licences(call):
    fuse(call, "--beta", "0.3")
    facts = json.loads(call("models", "info", "f.json", "--json").out)
    assert facts["scale"] == "2"
    assert facts["relativistic"].endswith("r.safetensors")
    assert facts["standard"].endswith("s.safetensors")
    assert (facts["alpha"], facts["beta"]) == ("0.7", "0.3")
    assert facts["licence"] == "licence of r and licence of s"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r.safetensors", "none.pth", "-o", "g.json"], "none.pth: no such file"),
        (["r.safetensors", "f.json", "-o", "g.json"], "f.json: is a fusion itself"),
        (["r.safetensors", "s.safetensors", "-o", "g.txt"], "must end in .json"),
        (["r.safetensors", "s.safetensors", "-o", "f.json"], "f.json"),
        (["r.safetensors", "realesr-animevideov3", "-o", "g.json"], "is x2, but"),
        (["r.safetensors", "s.safetensors", "-o", "g.json", "--alpha", "0.5", "--beta", "0.4"],
         "do not add up to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_fused_is_refused(call, tmp_path, arguments, message):
    fuse(call)
    before = (tmp_path / "f.json").read_bytes()
    ended = call("models", "fuse", *arguments)
    assert ended.code in (1, 2)
    assert message in ended.err
    assert (tmp_path / "f.json").read_bytes() == before
    assert not (tmp_path / "g.json").exists()


def test_a_denoising_strength_and_other_scales_are_refused(call, random_network):
    fuse(call)
    write_image(40)
    ended = call("a.png", "-n", "f.json", "--denoise", "0.5")
    assert ended.code == 2 and "--denoise is not supported" in ended.err
    other = random_network(SRVGGSpec(4, features=8, convolutions=1))
    write_safetensors(other.state_dict(), Path("s.safetensors"), {})
    ended = call("a.png", "-n", "f.json")
    assert ended.code == 1 and "scales x2 and x4" in ended.err
