"""Check without training whether a recipe can be trained on this machine."""

from __future__ import annotations

from upscale_training.data.patches import PatchDataset
from upscale_training.loop.distributed import Processes
from upscale_training.loop.networks import make_networks
from upscale_training.loop.validation import Validation
from upscale_training.recipe import Recipe


def check(recipe: Recipe, device: str = "auto") -> dict[str, str]:
    """Prepare everything that a run needs, and read one sample.

    Args:
        recipe: Recipe to check.
        device: Device as for `train`.

    Returns:
        Readable descriptions by topic.

    Raises:
        UpscaleError: The run would stop before its first iteration.
    """
    processes = Processes(device, recipe.computing.precision)
    dataset = PatchDataset(recipe.data, recipe.seed, recipe.network.scale)
    notes = list(dataset[0].damaged)
    degradation = recipe.degradation.settings(recipe.network.scale)
    if degradation is not None:
        degradation.prepare()
    report = {
        "recipe": recipe.name,
        "network": recipe.network.spec.describe(),
        "device": f"{processes.device}, {recipe.computing.precision}",
        "pictures": f"{len(dataset)} samples an epoch, patches of {recipe.data.patch}",
    }
    for index, stage in enumerate(recipe.stages):
        start = recipe.start if index == 0 else None
        networks, start_notes = make_networks(recipe, index, processes, start)
        notes += start_notes
        size = sum(each.numel() for each in networks.average.network.parameters())
        report["network"] = f"{recipe.network.spec.describe()}, {size:,} parameters"
        report[f"stage {stage.name}"] = (
            f"{stage.iterations} iterations of {stage.accumulate} x {stage.batch} patches"
        )
    if recipe.validation is not None:
        validation = Validation(recipe, processes, notes.append)
        counts = (f"{count} in {name}" for name, count in validation.images.items())
        report["validation"] = ", ".join(counts)
    return report | ({"notes": "; ".join(notes)} if notes else {})
