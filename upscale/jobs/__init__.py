"""Units of work: plan the outputs, then read, upscale and write each image.

`make_plan` decides everything that can be decided beforehand, `run_batch` does it and tells a
listener how far it is. Nothing prints here.
"""

from __future__ import annotations

from upscale.jobs.batch import BatchSettings, run_batch
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
from upscale.jobs.image_steps import WriteSettings
from upscale.jobs.inputs import read_names
from upscale.jobs.model_info import model_facts
from upscale.jobs.plan import ModelFacts, Plan, make_plan
from upscale.jobs.workers import UpscalerFactory

__all__ = [
    "Advanced",
    "BatchSettings",
    "Event",
    "Finished",
    "ImageJob",
    "ImageUpscaler",
    "JobRecord",
    "JobResult",
    "Listener",
    "ModelFacts",
    "Plan",
    "Planned",
    "Started",
    "Status",
    "UpscalerFactory",
    "WriteSettings",
    "make_plan",
    "model_facts",
    "read_names",
    "run_batch",
    "upscale_image",
]
