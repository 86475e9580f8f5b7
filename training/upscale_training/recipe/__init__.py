"""Recipes: validated settings of a training run."""

from __future__ import annotations

from upscale_training.recipe.settings import (
    ComputingSettings,
    DataSettings,
    DegradationRecipe,
    DiscriminatorSettings,
    GanSettings,
    LoggingSettings,
    NetworkSettings,
    OptimiserSettings,
    PerceptualSettings,
    PixelSettings,
    Recipe,
    RRDBNetSettings,
    SavingSettings,
    ScheduleSettings,
    Source,
    SRVGGSettings,
    Stage,
    ValidationSet,
    ValidationSettings,
)

__all__ = [
    "ComputingSettings",
    "DataSettings",
    "DegradationRecipe",
    "DiscriminatorSettings",
    "GanSettings",
    "LoggingSettings",
    "NetworkSettings",
    "OptimiserSettings",
    "PerceptualSettings",
    "PixelSettings",
    "RRDBNetSettings",
    "Recipe",
    "SRVGGSettings",
    "SavingSettings",
    "ScheduleSettings",
    "Source",
    "Stage",
    "ValidationSet",
    "ValidationSettings",
]
