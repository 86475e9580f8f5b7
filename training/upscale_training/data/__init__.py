"""Data sets: what prepares them, and what cuts upscale_training samples from them.

No torch is imported here: the processes that prepare images need none.
"""
