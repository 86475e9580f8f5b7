"""Recipes: everything that a training is told, as typed values."""

from __future__ import annotations

from training.recipe.settings import (
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
