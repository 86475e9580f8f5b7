"""Training: from photographs to weights that `upscale` loads."""
