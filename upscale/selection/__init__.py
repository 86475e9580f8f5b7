"""The choice of a network for an image, from the image alone; does not import torch."""

from upscale.selection.choice import Choice, Probe, Sample, choose, looks_clean

__all__ = ["Choice", "Probe", "Sample", "choose", "looks_clean"]
