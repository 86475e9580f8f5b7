"""Whether a recipe could be trained here, found out without upscale_training."""

from __future__ import annotations

from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.networks import make_networks
from upscale_training.loop.validation import Validation
from upscale_training.recipe import Recipe


def check(recipe: Recipe, device: str = "auto") -> dict[str, str]:
    """Make everything ready that a run needs, and read one sample.

    Args:
        recipe: what would be trained.
        device: as for `train`.

    Returns:
        What there is, in lines for people, by what it is about.

    Raises:
        UpscaleError: what would end the run before its first iteration.
    """
    processes = Processes(device, recipe.computing.precision)
    dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
    notes = list(dataset[0].damaged)
    found = {
        "recipe": recipe.name,
        "network": recipe.network.spec.describe(),
        "device": f"{processes.device}, {recipe.computing.precision}",
        "pictures": f"{len(dataset)} samples an epoch, patches of {recipe.data.patch}",
    }
    for place, stage in enumerate(recipe.stages):
        start = recipe.start if place == 0 else None
        networks, told = make_networks(recipe, place, processes, start)
        notes += told
        size = sum(each.numel() for each in networks.average.network.parameters())
        found["network"] = f"{recipe.network.spec.describe()}, {size:,} parameters"
        found[f"stage {stage.name}"] = (
            f"{stage.iterations} iterations of {stage.accumulate} x {stage.batch} patches"
        )
    if recipe.validation is not None:
        validation = Validation(recipe, processes, notes.append)
        counts = (f"{count} in {name}" for name, count in validation.images.items())
        found["validation"] = ", ".join(counts)
    return found | ({"notes": "; ".join(notes)} if notes else {})
