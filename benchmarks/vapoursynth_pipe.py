"""Upscale a video with VapourSynth and OpenVINO, as Y4M on standard output.

    python vapoursynth_pipe.py CLIP NETWORK.onnx FRAMES

Runs in a Python of its own, from version 3.12 on, with the packages vapoursynth,
vapoursynth-mlrt-ov and vapoursynth-bestsource; see `--vapoursynth` of `benchmarks.video`.
"""

from __future__ import annotations

import sys
from importlib import import_module

vs = import_module("vapoursynth")  # absent where the other benchmarks run


def main(clip: str, network: str, frames: int) -> None:
    """Write the first frames of a clip, upscaled in fp32."""
    core = vs.core
    source = core.bs.VideoSource(clip, cachemode=0)[:frames]
    rgb = core.resize.Bicubic(source, format=vs.RGBS, matrix_in_s="170m")
    large = core.ov.Model(
        rgb, network_path=network, device="CPU", config=lambda: {"INFERENCE_PRECISION_HINT": "f32"}
    )
    result = core.resize.Bicubic(large, format=vs.YUV420P8, matrix_s="170m")
    result.output(sys.stdout.buffer, y4m=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
