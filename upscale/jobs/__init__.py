"""Jobs: plan the outputs, then read, upscale and write each image.

`make_plan` makes all decisions that are possible before the work, and `run_batch` processes the
plan and reports events to a listener. Nothing in this package prints.
"""

from __future__ import annotations

from upscale.jobs.batch import run_batch, run_jobs
from upscale.jobs.events import (
    Advanced,
    Event,
    Finished,
    JobRecord,
    JobResult,
    Listener,
    Planned,
    Started,
    Status,
)
from upscale.jobs.image import ImageJob, ImageUpscaler, upscale_image
from upscale.jobs.inputs import read_names
from upscale.jobs.model_info import ModelInfo, find_model_info
from upscale.jobs.plan import Plan, make_plan
from upscale.jobs.workers import UpscalerFactory

__all__ = [
    "Advanced",
    "Event",
    "Finished",
    "ImageJob",
    "ImageUpscaler",
    "JobRecord",
    "JobResult",
    "Listener",
    "ModelInfo",
    "Plan",
    "Planned",
    "Started",
    "Status",
    "UpscalerFactory",
    "find_model_info",
    "make_plan",
    "read_names",
    "run_batch",
    "run_jobs",
    "upscale_image",
]
