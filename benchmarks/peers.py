"""Other implementations, for benchmarks and as references in tests, from their own packages."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.export.graph import trace
from upscale.export.ncnn_model import ncnn_model
from upscale.models import Network as BuiltIn

Network = Callable[[Tensor], Tensor]
"""Function from (1, 3, h, w) in 0..1 to (1, 3, s * h, s * w)."""


class PeerMissingError(Exception):
    """A peer's package is not installed, or does not work here."""


def load_basicsr(*names: str) -> list[ModuleType]:
    """Load modules of basicsr 1.4.2 such as `archs.rrdbnet_arch`.

    `import basicsr` fails with any current torchvision, so that each module is imported with
    stand-ins for its other imports.
    """
    spec = importlib.util.find_spec("basicsr")
    if spec is None or not spec.submodule_search_locations:
        raise PeerMissingError("basicsr is not installed")
    [folder] = spec.submodule_search_locations
    stand_ins = [
        _stand_in("basicsr", __path__=[folder]),
        _stand_in("basicsr.archs", __path__=[f"{folder}/archs"]),
        _stand_in("basicsr.data", __path__=[f"{folder}/data"]),
        _stand_in("basicsr.models", __path__=[f"{folder}/models"]),
        _stand_in("basicsr.models.srgan_model", SRGANModel=object),
        _stand_in("basicsr.losses", __path__=[f"{folder}/losses"]),
        _stand_in(
            "basicsr.utils",
            __path__=[f"{folder}/utils"],
            get_root_logger=None,
            DiffJPEG=None,
            USMSharp=None,
        ),
        _stand_in("basicsr.ops", __path__=[]),
        _stand_in("basicsr.ops.dcn", ModulatedDeformConvPack=object, modulated_deform_conv=None),
        _stand_in("torchvision", __version__="0.0.0", __path__=[]),
        _stand_in("torchvision.transforms", __path__=[]),
        _stand_in("torchvision.transforms.functional_tensor", rgb_to_grayscale=_grey),
        _stand_in("distutils", __path__=[]),
        _stand_in("distutils.version", LooseVersion=str),
    ]
    before = dict(sys.modules)
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        return [importlib.import_module(f"basicsr.{name}") for name in names]
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in {"basicsr", "torchvision", "distutils"}:
                del sys.modules[name]
        sys.modules.update(before)


def _grey(images: Tensor, num_output_channels: int = 1) -> Tensor:
    """Return the luminance of (N, 3, H, W) images, as torchvision does."""
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def _stand_in(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module


def spandrel_network(state: Mapping[str, Tensor]) -> nn.Module:
    """Return Spandrel's network for a state dict."""
    try:
        spandrel = importlib.import_module("spandrel")
    except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
        raise PeerMissingError(f"spandrel does not work here: {error}") from error
    return spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state)).model.eval()


def ncnn_network(network: BuiltIn[Any]) -> Network:
    """Return a network in ncnn on the CPU."""
    ncnn = _package("ncnn")
    param, weights = ncnn_model(trace(network))
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "network.param"), Path(folder, "network.bin")
        files[0].write_text(param, encoding="ascii")
        files[1].write_bytes(weights)
        net.load_param(str(files[0]))
        net.load_model(str(files[1]))

    def run(image: Tensor) -> Tensor:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(image[0].contiguous().numpy()))
        _, result = extractor.extract(net.output_names()[0])
        return torch.from_numpy(np.array(result))[None]

    return run


def openvino_network(network: nn.Module, height: int, width: int, precision: str) -> Network:
    """Return a network in OpenVINO on the CPU for one image size, in `f32` or `bf16`."""
    openvino = _package("openvino")
    example = torch.zeros(1, 3, height, width)
    converted = openvino.convert_model(network, example_input=example, input=list(example.shape))
    hints = {"INFERENCE_PRECISION_HINT": precision}
    hints["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()
    return lambda image: torch.from_numpy(request.infer({0: image.numpy()})[0])


def onnxruntime_network(network: nn.Module, height: int, width: int) -> Network:
    """Return a network in ONNX Runtime on the CPU for one image size."""
    runtime = _package("onnxruntime")
    _package("onnx")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs one more package
        torch.onnx.export(network, (torch.zeros(1, 3, height, width),), file, dynamo=False)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CPUExecutionProvider"]
    session = runtime.InferenceSession(file.getvalue(), options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissingError(f"{name} is not installed") from error


def padded_tiles(
    network: Network, image: Tensor, tile: int, padding: int = 10, scale: int = 4
) -> Tensor:
    """Upscale an image as the official program does: tiles with a fixed padding, cropped.

    Args:
        network: Function from (1, 3, h, w) to (1, 3, scale * h, scale * w).
        image: Image of shape (1, 3, H, W) in 0..1.
        tile: Side of a tile in pixels; 0 for none.
        padding: Pixels read around each tile, and added by reflection at the right and bottom.
        scale: Scale of the network.
    """
    _, _, height, width = image.shape
    image = F.pad(image, (0, padding, 0, padding), "reflect")
    if tile == 0:
        return network(image)[:, :, : height * scale, : width * scale]
    rows, columns = image.shape[2:]
    result = image.new_zeros(1, 3, rows * scale, columns * scale)
    for top in range(0, rows, tile):
        for left in range(0, columns, tile):
            bottom, right = min(top + tile, rows), min(left + tile, columns)
            above, before = max(top - padding, 0), max(left - padding, 0)
            outer = image[:, :, above : bottom + padding, before : right + padding]
            inner = network(outer)[
                :,
                :,
                (top - above) * scale : (bottom - above) * scale,
                (left - before) * scale : (right - before) * scale,
            ]
            result[:, :, top * scale : bottom * scale, left * scale : right * scale] = inner
    return result[:, :, : height * scale, : width * scale]


def to_levels(image: Tensor) -> Tensor:
    """Convert (1, 3, H, W) in 0..1 to (H, W, 3) uint8."""
    levels = image[0].float().clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).permute(1, 2, 0).cpu()
