"""Units of work: plan the outputs, then read, enlarge and write each picture.

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
from upscale.jobs.image import ImageJob, PictureUpscaler, enlarge_picture
from upscale.jobs.model import model_facts
from upscale.jobs.plan import ModelFacts, Plan, make_plan
from upscale.jobs.sources import read_names
from upscale.jobs.stages import WriteSettings
from upscale.jobs.workers import UpscalerFactory

__all__ = [
    "Advanced",
    "BatchSettings",
    "Event",
    "Finished",
    "ImageJob",
    "JobRecord",
    "JobResult",
    "Listener",
    "ModelFacts",
    "PictureUpscaler",
    "Plan",
    "Planned",
    "Started",
    "Status",
    "UpscalerFactory",
    "WriteSettings",
    "enlarge_picture",
    "make_plan",
    "model_facts",
    "read_names",
    "run_batch",
]
