"""A whole training on real photographs, small enough for a CPU."""

from __future__ import annotations

import pytest
from upscale_training.data.pixels import read_rgb, write_png
from upscale_training.loop import Baseline, Exported, Validated
from upscale_training.recipe.reading import read_recipe
from upscale_training.recipes import bundled

from tests.training.loop.runs import collected
from upscale.cli.app import run
from upscale.cli.session import Session

NOISY = (
    "[{do: resize, up: 0, down: 0, keep: 1, kinds: [bicubic], of: result},"
    " {do: noise, gaussian: 1, poisson: 0, sigma: [15, 30], grey: 0}]"
)


@pytest.mark.slow
def test_the_included_tiny_recipe_learns_to_upscale_photographs_it_has_not_seen(
    data, tmp_path, capsys
):
    held = tmp_path / "held"
    for file in sorted((data / "photos" / "scenes").glob("*.webp"))[:8]:
        write_png(read_rgb(file)[:256, :256].copy(), held / f"{file.stem}.png")
    sets = f"[{{name: real, high: {held}}}, {{name: noisy, high: {held}, chain: {NOISY}}}]"
    recipe = read_recipe(
        bundled()["tiny-x4"],
        [
            f"data.sources.0.path={data / 'photos' / 'crops'}",
            f"validation={{sets: {sets}, every: 100, images: 1}}",
        ],
    )
    assert recipe.network.blocks == 2
    events = collected(recipe, tmp_path / "run")

    def gains(stage: str, place: str) -> list[float]:
        """PSNR over that of bicubic interpolation, in dB, at each validation."""
        bicubic = next(event for event in events if isinstance(event, Baseline))
        found = [e for e in events if isinstance(e, Validated) and e.stage == stage]
        return [e.scores[place]["psnr"] - bicubic.scores[place]["psnr"] for e in found]

    for place, least in (("real", -0.7), ("noisy", 0.7)):
        first = gains("psnr", place)
        assert len(first) == 3
        assert first == sorted(first), "held-out images become better all the time"
        assert first[-1] > first[0] + 3
        assert first[-1] > least
        assert gains("gan", place)[-1] > first[-1] - 0.2, "the second stage keeps what was learnt"

    exported = [event.path for event in events if isinstance(event, Exported)][-1]
    photo = data / "images" / "generated" / "old_photo.jpg"
    session = Session.of_process()
    target = tmp_path / "large.png"
    assert run([str(photo), "-n", str(exported), "-o", str(target)], session) == 0
    height, width = read_rgb(photo).shape[:2]
    large = read_rgb(target)
    assert large.shape == (4 * height, 4 * width, 3)
    small = large.reshape(height, 4, width, 4, 3).mean((1, 3))
    assert abs(small - read_rgb(photo)).mean() < 12, "it is still that photograph"
