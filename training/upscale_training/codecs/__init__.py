"""Degradations that codecs compute on the CPU: WebP and H.264.

Importing this package makes the steps `webp` and `video` available.
"""

from __future__ import annotations

from upscale_training.codecs.video import VideoCompression, VideoStep, compress_video
from upscale_training.codecs.webp import WebP, WebPStep, compress_webp
from upscale_training.degradation import register_degradation

register_degradation("webp", WebPStep, {WebP: compress_webp})
register_degradation("video", VideoStep, {VideoCompression: compress_video})
