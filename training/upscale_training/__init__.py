"""Training of the networks that `upscale` loads."""
