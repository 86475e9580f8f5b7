"""BasicSR's metrics, the reference implementations of tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import scipy.ndimage

from benchmarks.peers import PeerMissingError, load_basicsr


def load_official() -> SimpleNamespace:
    """Return BasicSR's functions; skip the test if BasicSR is not installed."""
    try:
        [colours, resizing] = load_basicsr("utils.color_util", "utils.matlab_functions")
        stand_ins = _stand_ins(colours)
        before = {name: sys.modules.get(name) for name in stand_ins}
        sys.modules.update(stand_ins)
        try:
            [paired, alone] = load_basicsr("metrics.psnr_ssim", "metrics.niqe")
        finally:
            for name, module in before.items():
                del sys.modules[name]
                if module is not None:
                    sys.modules[name] = module
    except PeerMissingError as error:
        pytest.skip(f"{error} (the README's test command installs it)")
    return SimpleNamespace(
        calculate_psnr=paired.calculate_psnr,
        calculate_ssim=paired.calculate_ssim,
        niqe=alone.niqe,
        compute_feature=alone.compute_feature,
        imresize=resizing.imresize,
        folder=_folder(),
    )


def _stand_ins(colours: ModuleType) -> dict[str, object]:
    """Return stand-ins for imports of these modules, and for a name that scipy removed."""
    metrics = ModuleType("basicsr.metrics")
    metrics.__path__ = [str(_folder() / "metrics")]
    filters = ModuleType("scipy.ndimage.filters")
    filters.convolve = scipy.ndimage.convolve
    return {
        "basicsr.metrics": metrics,
        "basicsr.utils.bgr2ycbcr": colours.bgr2ycbcr,
        "scipy.ndimage.filters": filters,
    }


def _folder() -> Path:
    spec = importlib.util.find_spec("basicsr")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
